"""Write every page that is made from the code anew: ``python -m tests.docs``."""

import logging

import structlog

from tests.docs import metrics, permissions, reference, runbooks, states

PAGES = {
    **reference.PAGES,
    metrics.PAGE: metrics.page,
    permissions.PAGE: permissions.page,
    runbooks.PAGE: runbooks.page,
    states.PAGE: states.page,
}

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # a hub is made for one of them
for place, page in PAGES.items():
    place.write_text(page(), encoding="utf-8")
