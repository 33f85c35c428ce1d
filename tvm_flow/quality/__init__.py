"""How good a video is: metrics, the judge, evaluation."""
