"""Every rule by the name that `rbs bon` knows it by."""

from rbs_jax.choose.ensembles import mean, uncertainty_weighted, worst
from rbs_jax.choose.rule import Rule, by_value
from rbs_jax.choose.tournaments import brackets, knockout, round_robin, votes
from rbs_jax.choose.transforms import log_sigmoid, par

RULES: dict[str, Rule] = {
    "mean": by_value("the highest mean over models; of one model, the highest score", mean),
    "worst": by_value("the highest of the lowest score by any model", worst),
    "uncertainty_weighted": by_value(
        "the highest mean less half the variance over models", uncertainty_weighted
    ),
    "log_sigmoid": by_value("the likeliest to be good by every model", log_sigmoid),
    "par": by_value("the likeliest to be preferred to the prompt's other candidates", par),
    "round_robin": Rule(
        "the highest Bradley-Terry rating, models voting on every pair",
        lambda scores, _: round_robin(votes(scores)),
    ),
    "knockout": Rule(
        "the winner of a shuffled bracket, models voting on each game",
        lambda scores, random: knockout(votes(scores), brackets(scores, random)),
    ),
}
