"""Subject lists of the BioVid Heat Pain Database as published in the literature.

The only file of the project that may contain raw subject ids.
"""

# Dropped by the 67-subject variant of Part A.
DROPPED_BY_67 = (
    "082315_w_60 082414_m_64 082909_m_47 083009_w_42 083013_w_47 083109_m_60 083114_w_55 091914_m_46 "
    "092009_m_54 092014_m_56 092509_w_51 092714_m_64 100514_w_51 100914_m_39 101114_w_37 101209_w_61 "
    "101809_m_59 101916_m_40 111313_m_64 120614_w_61"
).split()

# The 26 held-out subjects of the proposed 61/26 split of Part A.
HOLD_OUT_26 = (
    "100914_m_39 101114_w_37 082315_w_60 083114_w_55 083109_m_60 072514_m_27 080309_m_29 112016_m_25 "
    "112310_m_20 092813_w_24 112809_w_23 112909_w_20 071313_m_41 101309_m_48 101609_m_36 091809_w_43 "
    "102214_w_36 102316_w_50 112009_w_43 101814_m_58 101908_m_61 102309_m_61 112209_m_51 112610_w_60 "
    "112914_w_51 120514_w_56"
).split()

# Subjects whose faces are printed in the paper: only these may be shown in figures.
SHOWN_IN_PAPER = (
    "071309_w_21 080314_w_25 112209_m_51 102214_w_36 111409_w_63 101814_m_58 081609_w_40"
).split()

# Names of the lists, and how many Part A subjects each keeps.
NAMES = ("all", "67", "hold_out_61", "hold_out_26")
PART_A_COUNTS = {"all": 87, "67": 67, "hold_out_61": 61, "hold_out_26": 26}


def keeps(list_name: str, subject: str) -> bool:
    """Whether the named list keeps this subject; KeyError for a name that is not in NAMES."""
    return {
        "all": True,
        "67": subject not in DROPPED_BY_67,
        "hold_out_61": subject not in HOLD_OUT_26,
        "hold_out_26": subject in HOLD_OUT_26,
    }[list_name]
