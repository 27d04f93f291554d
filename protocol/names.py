"""Default names of agents: ships of Iain M. Banks' Culture novels.

A sidecar that is given no name picks one here, once, and keeps it in its state directory. The names obey
:data:`protocol.ids.NAME`; dashes stand for spaces and other marks are left out, so that a name needs no quotes in a
shell and no escape in a URL, and none is longer than what a branch name keeps of it. Pure: the random source is the
caller's.
"""

from collections.abc import Collection
from random import Random
from typing import Final

SHIPS: Final[tuple[str, ...]] = tuple(
    """
    All-The-Same-I-Saw-It-First All-Through-With-This-Niceness Another-Fine-Product Appeal-To-Reason Arbitrary
    Armchair-Traveller Arrested-Development Attitude-Adjuster Bad-For-Business Beats-Working Bodhisattva
    Bora-Horza-Gobuchul Break-Even Caconym Cantankerous Cargo-Cult Clear-Air-Turbulence Congenital-Optimist
    Contents-May-Differ Credibility-Problem Death-And-Gravity Determinist Dramatic-Exit Eight-Rounds-Rapid Empiricist
    Ethics-Gradient Fate-Amenable-To-Change Fine-Till-You-Came-Along Flexible-Demeanour Frank-Exchange-Of-Views
    Full-Refund Funny-It-Worked-Last-Time Grey-Area Gunboat-Diplomat Gut-Feeling Heavy-Messing Hidden-Income
    Honest-Mistake Hundredth-Idiot I-Blame-My-Mother I-Blame-The-Parents I-Blame-Your-Mother I-Thought-He-Was-With-You
    Inappropriate-Response Inspired-By-Actual-Events Irregular-Apocalypse Its-Character-Forming Jaundiced-Outlook
    Just-Passing-Through Just-Read-The-Instructions Just-Testing Kakistocrat Kiss-The-Blade Kiss-This-Then
    Lapsed-Pacifist Lasting-Damage Limiting-Factor Little-Rascal Living-Fossil Lucid-Nonsense Mistake-Not
    Nervous-Energy New-Toy No-More-Mr-Nice-Guy Not-Invented-Here Nuisance-Value Of-Course-I-Still-Love-You
    Only-Slightly-Bent Peace-Makes-Plenty Pelagian Poke-It-With-A-Stick Pressure-Drop Prime-Mover Problem-Child
    Profit-Margin Prosthetic-Conscience Qualifier Quietly-Confident Rapid-Random-Response Reasonable-Excuse
    Recent-Convert Refinement-Of-Grace Reformed-Nice-Guy Sacrificial-Victim Sanctioned-Parts-List Screw-Loose
    Seed-Drill Sense-Amid-Madness Serious-Callers-Only Shoot-Them-Later Size-Isnt-Everything Sleeper-Service
    Smile-Tolerantly So-Much-For-Subtlety Someone-Elses-Problem Steely-Glint Stranger-Here-Myself
    Subtle-Shift-In-Emphasis Sweet-And-Full-Of-Grace Synchronize-Your-Dogmas Tactical-Grace Teething-Problems
    The-Ends-Of-Invention Thorough-But-Unreliable Trade-Surplus Ultimate-Ship-The-Second Unacceptable-Behaviour
    Undesirable-Alien Unfortunate-Conflict-Of-Evidence Uninvited-Guest Unwitting-Accomplice Use-Psychology
    Very-Little-Gravitas-Indeed Well-I-Was-In-The-Neighbourhood What-Is-The-Answer-And-Why Wisdom-Like-Silence
    Xenoclast Xenophobe Yawning-Angel You-Call-This-Clean Youll-Thank-Me-Later Zealot Zero-Gravitas
    """.split()
)


def pick(taken: Collection[str], random: Random) -> str:
    """A ship's name that is not in ``taken``; once all are, one with the first free number behind it."""
    used = set(taken)
    free = [name for name in SHIPS if name not in used]
    if free:
        return random.choice(free)
    base = random.choice(SHIPS)
    number = next(n for n in range(2, len(used) + 3) if f"{base}-{n}" not in used)
    return f"{base}-{number}"
