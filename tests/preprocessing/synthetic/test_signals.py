"""Information in the synthetic signals: enough at effect 1, none at effect 0, and none in the clip numbers."""

import numpy as np
import pytest
from scipy.signal import find_peaks

from preprocessing.synthetic.people import LEVELS, draw_people, session
from preprocessing.synthetic.signals import FS, Stimulus, make_signals
from tests.helpers.synthetic_checks import CHANNELS, forest_accuracy, measure, ranking

pytestmark = pytest.mark.medium
CHANCE_SE = np.sqrt(0.25 / 128)


@pytest.fixture(scope="module")
def effect_1():
    return measure(effect=1.0, seed=0)


def test_a_forest_scores_between_70_and_95_percent(effect_1):
    assert 0.70 <= forest_accuracy(*effect_1) <= 0.95


@pytest.mark.parametrize("channel", range(3), ids=CHANNELS)
def test_each_signal_alone_is_informative(effect_1, channel):
    x, y, people = effect_1
    score = forest_accuracy(x[:, channel], y, people)
    assert 0.5 + 2.5 * CHANCE_SE < score < 0.93


def test_without_effect_a_forest_is_at_chance():
    x, y, people = measure(effect=0.0, seed=0)
    assert abs(forest_accuracy(x, y, people) - 0.5) < 3 * CHANCE_SE
    largest = [abs(area - 0.5) / error for area, error in (ranking(v, y, people) for v in x.reshape(128, -1).T)]
    assert np.mean(np.array(largest) < 2) > 0.8  # 48 numbers, most of them related


def test_without_effect_the_level_does_not_reach_the_signals():
    """With equal random numbers every level gives identical signals."""
    person = draw_people(1, seed=0)[0]
    clips = session(person, 1, 0.0, LEVELS)
    assert {c.intensity for c in clips} == {0.0} and len(clips) == 5
    rising = [c.intensity for c in sorted(session(person, 1, 1.0, LEVELS), key=lambda c: c.level)]
    assert rising == sorted(rising) and rising[0] == 0.0 and len(set(rising)) == 5


def test_intensity_moves_every_signal_the_way_pain_does():
    person = max(draw_people(8, seed=0), key=lambda p: min(p.response_gsr, p.response_ecg, p.response_emg))
    shift = np.zeros(4)
    for k in range(12):
        calm, pain = (make_signals(person, Stimulus(i, 1.5), True, np.random.default_rng(k))[0] for i in (0.0, 1.0))
        late = slice(int(2.5 * FS), None)
        assert (calm["gsr"][: int(1.5 * FS)] == pain["gsr"][: int(1.5 * FS)]).all()  # nothing before the stimulus
        rise = [s["gsr"][late].mean() - s["gsr"][: int(FS)].mean() for s in (calm, pain)]
        beats = [np.diff(find_peaks(s["ecg"], s["ecg"].max() * 0.6, distance=150)[0])[-3:].mean() for s in (calm, pain)]
        tension = [np.log(s[c][late].std()) for c in ("emg_trapezius", "emg_corrugator") for s in (calm, pain)]
        shift += rise[1] - rise[0], beats[0] - beats[1], tension[1] - tension[0], tension[3] - tension[2]
    assert (shift / 12 > [0.05, 5, 0.1, 0.1]).all()  # microsiemens, samples between beats, log units


def test_order_and_number_do_not_reveal_the_level():
    """Within BioVid's numbering: 81 and more is baseline by definition, nothing else follows from a number."""
    clips = [c for person in draw_people(30, seed=2) for c in session(person, 10, 1.0, LEVELS)]
    people = np.array([c.person.index for c in clips])
    level = np.array([c.level for c in clips])
    for low, high, value in (("BL1", "PA4", "order"), ("PA1", "PA4", "order"), ("PA1", "PA4", "number")):
        use = (level == low) | (level == high)
        area, error = ranking(np.array([getattr(c, value) for c in clips])[use], (level == high)[use], people[use])
        assert abs(area - 0.5) < 3 * error, (low, high, value)


def test_subjects_differ_and_some_hardly_respond():
    people = draw_people(8, seed=0)
    for kind in ("face", "gsr", "ecg", "emg"):
        response = [getattr(p, f"response_{kind}") for p in people]
        assert 1 <= sum(r < 0.3 for r in response) <= 2 and max(response) > 1.1
    assert max(p.tonic_us for p in people) > 2 * min(p.tonic_us for p in people)
    assert len({p.raw_id for p in people}) == 8 and [p.raw_id for p in people] == sorted(p.raw_id for p in people)
    assert [p.heart_rate for p in people] != [p.heart_rate for p in draw_people(8, seed=1)]
