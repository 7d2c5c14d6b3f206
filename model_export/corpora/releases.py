"""The corpora whose released trees can be read, by name."""

from model_export.corpora import crema_d, emo_db, esd, iemocap, nemo, plain, ravdess, table, urdu
from model_export.corpora.released import Release

#: The name goes into the manifest's column `corpus`.
RELEASES: dict[str, Release] = {
    "iemocap": iemocap.RELEASE,
    "st-emo": table.ST_EMO,
    "nemo": nemo.RELEASE,
    "ravdess": ravdess.RELEASE,
    "emo-db": emo_db.RELEASE,
    "urdu": urdu.RELEASE,
    "crema-d": crema_d.RELEASE,
    "esd": esd.RELEASE,
    "plain": plain.RELEASE,
    "csv": table.RELEASE,
}
