"""Answers with squares that were worked out when the image was built."""

import json
from pathlib import Path

from fastapi import FastAPI, HTTPException

SQUARES = json.loads(Path("/srv/squares.json").read_text())
app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/squares/{number}")
def square(number: str) -> dict[str, int]:
    if number not in SQUARES:
        raise HTTPException(status_code=404, detail="not prepared")
    return {"square": SQUARES[number]}
