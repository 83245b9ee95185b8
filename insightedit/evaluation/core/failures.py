"""The ways in which an edit fails, for people, judges and exact scenes alike."""

FAILURES = {
    "F1": "no edit",
    "F2": "wrong object",
    "F3": "right object, wrong attribute or class",
    "F4": "partial edit",
    "F5": "over-edit or leak",
    "F6": "wrong place or size",
    "F7": "wrong count, extra or duplicate objects",
    "F8": "removal residue or poor fill",
    "F9": "subject identity lost",
    "F10": "artefact, blur, broken geometry",
    "F11": "global colour or tone drift",
    "F12": "reasoning misread",
    "F13": "crop or alignment shift",
    "F14": "ambiguous or bad sample",
}
