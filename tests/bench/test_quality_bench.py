"""The quality bench's claims are stated whatever comes out."""

from __future__ import annotations

from tvm_flow.bench.quality import CLAIMS, MAIN, claim_table, claims, held_claims
from tvm_flow.quality.standings import verdicts
from tvm_flow.quantize.named_recipes import recipe_names


def lines(recipe: str, db: float, confidence: float) -> list[dict[str, object]]:
    head = {"key": "a", "recipe": recipe, "model": "plain", "bytes_per_step": 0.0, "groups": [0]}
    return [
        {**head, "prompt": f"p{p}", "seed": s, "latent_psnr_db": db, "all": 1.0, "confidence": confidence + s / 100}
        for p in range(5)
        for s in range(2)
    ]


def test_a_claim_that_fails_is_printed_like_one_that_holds() -> None:
    found = claims(
        verdicts([*lines("fp32", 160, 0.9), *lines("static-w8a8", 50, 0.9), *lines("dynamic-w8a8", 57, 0.5)])
    )
    assert any("static-w8a8 less fp32, confidence: 0.0 [0.0, 0.0]" in line and "equivalent" in line for line in found)
    assert any("static-w8a8 less dynamic-w8a8, latent_psnr_db: -7.0" in line and "below" in line for line in found)
    assert len(found) == 4
    assert "| plain | static-w8a8 less fp32 | confidence | 0.0 [0.0, 0.0] | 0.0071 | equivalent |" in claim_table(
        held_claims(verdicts([*lines("fp32", 160, 0.9), *lines("static-w8a8", 50, 0.9)]))
    )


def test_what_the_readme_shows_is_there() -> None:
    assert set(MAIN) <= set(recipe_names())
    assert {name for claim in CLAIMS for name in claim[:2]} <= set(MAIN)
