"""Default names of agents: ships of Iain M. Banks' Culture novels.

A sidecar that is given no name picks one here, once, and keeps it in its state directory. The names obey
:data:`protocol.ids.NAME`; dashes stand for spaces and other marks are left out, so that a name needs no quotes in a
shell and no escape in a URL. Pure: the random source is the caller's.
"""

from collections.abc import Collection
from random import Random
from typing import Final

from protocol.limits import MAX_NAME_CHARS

SHIPS: Final[tuple[str, ...]] = tuple(
    """
    A-Series-Of-Unlikely-Explanations All-The-Same-I-Saw-It-First All-Through-With-This-Niceness Another-Fine-Product
    Anticipation-Of-A-New-Lovers-Arrival Appeal-To-Reason Arbitrary Armchair-Traveller Arrested-Development
    Attitude-Adjuster Bad-For-Business Beats-Working Bodhisattva Bora-Horza-Gobuchul Break-Even Caconym Cantankerous
    Cargo-Cult Clear-Air-Turbulence Congenital-Optimist Contents-May-Differ Credibility-Problem Death-And-Gravity
    Determinist Dramatic-Exit Eight-Rounds-Rapid Empiricist Ethics-Gradient
    Experiencing-A-Significant-Gravitas-Shortfall Falling-Outside-The-Normal-Moral-Constraints Fate-Amenable-To-Change
    Fine-Till-You-Came-Along Flexible-Demeanour Frank-Exchange-Of-Views Full-Refund Funny-It-Worked-Last-Time
    Grey-Area Gunboat-Diplomat Gut-Feeling Heavy-Messing Helpless-In-The-Face-Of-Your-Beauty Hidden-Income
    Honest-Mistake Hundredth-Idiot I-Blame-My-Mother I-Blame-The-Parents I-Blame-Your-Mother I-Thought-He-Was-With-You
    Inappropriate-Response Inspired-By-Actual-Events Irregular-Apocalypse Its-Character-Forming Jaundiced-Outlook
    Just-Another-Victim-Of-The-Ambient-Morality Just-Passing-Through Just-Read-The-Instructions Just-Testing
    Just-The-Washing-Instruction-Chip-In-Lifes-Rich-Tapestry Kakistocrat Kiss-The-Blade Kiss-This-Then
    Lacking-That-Small-Match-Temperament Lapsed-Pacifist Lasting-Damage Lightly-Seared-On-The-Reality-Grill
    Limiting-Factor Little-Rascal Living-Fossil Lucid-Nonsense Melancholia-Enshrines-All-Triumph Mistake-Not
    Nervous-Energy New-Toy No-More-Mr-Nice-Guy Not-Invented-Here Nuisance-Value Of-Course-I-Still-Love-You
    Only-Slightly-Bent Outstanding-Contribution-To-The-Historical-Process Passing-By-And-Thought-Id-Drop-In
    Peace-Makes-Plenty Pelagian Poke-It-With-A-Stick Pressure-Drop Prime-Mover Problem-Child Profit-Margin
    Prosthetic-Conscience Qualifier Quietly-Confident Rapid-Random-Response Reasonable-Excuse Recent-Convert
    Refinement-Of-Grace Reformed-Nice-Guy Refreshingly-Unconcerned-With-The-Vulgar-Exigencies-Of-Veracity
    Sacrificial-Victim Sanctioned-Parts-List Screw-Loose Seed-Drill Sense-Amid-Madness Serious-Callers-Only
    Shoot-Them-Later Size-Isnt-Everything Sleeper-Service Smile-Tolerantly So-Much-For-Subtlety Someone-Elses-Problem
    Steely-Glint Stranger-Here-Myself Subtle-Shift-In-Emphasis Sweet-And-Full-Of-Grace Synchronize-Your-Dogmas
    Tactical-Grace Teething-Problems The-Ends-Of-Invention Thorough-But-Unreliable Trade-Surplus
    Ultimate-Ship-The-Second Unacceptable-Behaviour Undesirable-Alien Unfortunate-Conflict-Of-Evidence Uninvited-Guest
    Unwitting-Accomplice Use-Psychology Very-Little-Gravitas-Indeed Well-I-Was-In-The-Neighbourhood
    What-Are-The-Civilian-Applications What-Is-The-Answer-And-Why Wisdom-Like-Silence Xenoclast Xenophobe
    Yawning-Angel You-Call-This-Clean Youll-Clean-That-Up-Before-You-Leave Youll-Thank-Me-Later Zealot Zero-Gravitas
    """.split()
)


def pick(taken: Collection[str], random: Random) -> str:
    """A ship's name that is not in ``taken``; once all are, one with the first free number behind it."""
    used = set(taken)
    free = [name for name in SHIPS if name not in used]
    if free:
        return random.choice(free)
    # Room for the number within the 64 characters of a name.
    base = random.choice([name for name in SHIPS if len(name) <= MAX_NAME_CHARS - 8])
    number = next(n for n in range(2, len(used) + 3) if f"{base}-{n}" not in used)
    return f"{base}-{number}"
