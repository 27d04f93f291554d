"""Write every page that is made from the code anew: ``python -m tests.docs``."""

from tests.docs import permissions, reference, states

for place, page in {**reference.PAGES, permissions.PAGE: permissions.page, states.PAGE: states.page}.items():
    place.write_text(page(), encoding="utf-8")
