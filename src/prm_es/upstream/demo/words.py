"""The words that the made-up world is told in. Nobody and nothing here exists."""

from typing import Final

FIRST: Final = (
    "Ada", "Bruno", "Carla", "Davi", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Luis", "Marta",
    "Nora", "Oscar", "Paula", "Quentin", "Rosa", "Stefan", "Tania", "Ulla", "Victor", "Wanda", "Xavier", "Yara", "Zoe",
)  # fmt: skip
LAST: Final = (
    "Abreu", "Becker", "Castro", "Dubois", "Esteves", "Fischer", "Garcia", "Hughes", "Iglesias", "Jansen", "Keller",
    "Lopes", "Moreau", "Nunes", "Olsen", "Prado", "Quist", "Ramos", "Silveira", "Turner", "Urban", "Vogel", "Walker",
    "Young", "Zimmer",
)  # fmt: skip
PARTNER_FIRST: Final = (
    "Alder", "Beacon", "Cobalt", "Delta", "Ember", "Fathom", "Granite", "Harbor", "Indigo", "Juniper", "Keystone",
    "Lumen", "Meridian", "Northway", "Onyx", "Pinnacle", "Quarry", "Ridge", "Summit", "Tidal", "Umbra", "Vertex",
    "Willow", "Xenon", "Yarrow", "Zephyr",
)  # fmt: skip
PARTNER_SECOND: Final = ("Systems", "Consulting", "Digital", "Networks", "Solutions", "Software", "Data", "Trading")
CUSTOMER_FIRST: Final = (
    "Acacia", "Boreal", "Cascade", "Dunes", "Estuary", "Fjord", "Glacier", "Highland", "Island", "Jetty", "Kelp",
    "Lagoon", "Meadow", "Nimbus", "Orchard", "Prairie", "Quartz", "River", "Savanna", "Tundra", "Upland", "Valley",
    "Woodland", "Yonder", "Zenith", "Almond", "Basalt", "Cedar", "Dolphin", "Everglade", "Falcon", "Garnet", "Heron",
    "Ibis", "Jasper", "Kestrel", "Larch", "Maple", "Nectar", "Obsidian", "Pelican", "Quail", "Raven", "Saffron",
    "Thistle", "Ursa", "Violet", "Walnut", "Yew", "Zinnia",
)  # fmt: skip
CUSTOMER_SECOND: Final = (
    "Foods", "Logistics", "Energy", "Hospitals", "Insurance", "Retail", "Textiles", "Motors", "Paper", "Airways",
    "Shipping", "Pharma", "Steel", "Media", "Bank", "Mining", "Ceramics", "Farms", "Furniture", "Hotels", "Plastics",
    "Railways", "Schools", "Telecom",
)  # fmt: skip
PROBLEMS: Final = (
    "Month-end reports take four days and nobody trusts the numbers.",
    "Backups fail about once a week and a restore was never tried.",
    "Each plant runs its own directory, and leavers keep their access for weeks.",
    "The web shop goes down whenever a campaign starts.",
    "Auditors asked for a record of who changed which order, and there is none.",
    "Paper delivery notes are typed in by hand and a tenth of them is wrong.",
    "The old system's licence ends this year and its maker is gone.",
    "Field engineers cannot see the stock while they are at the customer's.",
)
COMPETITORS: Final = ("Rivalsoft", "Cheapstack", "Olderworks", "Bigname Cloud")
ACTIVITIES: Final = (
    ("call", "Talked through the open questions."),
    ("email", "Sent the summary of the last meeting."),
    ("meeting", "Met the department heads; they want it before the season starts."),
    ("visit", "Walked through the plant."),
    ("demonstration", "Showed the main flows with their own data."),
    ("proposal", "Went through the offer line by line."),
)
COMMENTS: Final = (
    "Purchasing wants three references.",
    "The budget is approved, the date is not.",
    "Their IT is on our side.",
    "Waiting for the legal department.",
    "A second site may join later.",
)
NEXT_ACTIONS: Final = (
    "Call back about the budget",
    "Arrange a demonstration",
    "Send the revised offer",
    "Meet the head of purchasing",
    "Get the security questionnaire answered",
    "Follow up on the contract",
)
HELP: Final = (
    ("technical", "We need someone who knows their database."),
    ("commercial", "They ask for a discount above our limit."),
    ("legal", "Their contract has a clause on liability that we have not seen before."),
)
BACKWARDS: Final = (
    "The sponsor left, we start over with the successor.",
    "The scope changed, the test must be repeated.",
)
TASKS: Final = ("product training", "sales training", "portal access", "first joint plan")
LINES: Final = (
    ("analytics", "Analytics Suite", 240),
    ("backup", "Backup Vault", 90),
    ("identity", "Identity Hub", 60),
    ("observability", "Observability Cloud", 150),
    ("integration", "Integration Bus", 400),
    ("storage", "Archive Storage", 35),
)
SOURCES: Final = ("web form", "fair", "webinar", "referral", "telephone")
STRATEGIES: Final = ("best fit", "round robin", "by territory")
FOR_A_CANDIDATE: Final = ("same country", "authorised", "has capacity", "high win rate", "answers fast")
EVIDENCE: Final = (
    "Minutes of the meeting with their head of IT.",
    "Their request for an offer, by e-mail.",
    "The signed non-disclosure agreement.",
)
QUESTIONS: Final = (
    "Which department is it for, and who decides there?",
    "Please give the tax id of the buying company.",
    "When do they want to decide, and on which budget?",
)
REVOKED: Final = (
    "Nothing has happened with this customer.",
    "Approved by mistake: it is a named account.",
)
STILL_ON_IT: Final = (
    "The test runs until the end of the month.",
    "The board meets again in four weeks.",
)
BRANCH_CITIES: Final = ("Belém", "Campinas", "Manaus", "Porto Alegre", "Santos")
