"""The FastAPI middleware of the Python package x402, charging by `exact` through the facilitator."""

import uvicorn
from contract import free_port, setting, tell
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from x402 import x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, PaymentOption, RouteConfig
from x402.http.middleware.fastapi import payment_middleware
from x402.mechanisms.svm.exact.server import ExactSvmScheme
from x402.schemas import AssetAmount

facilitator = HTTPFacilitatorClient(FacilitatorConfig(url=setting("X402_FACILITATOR")))
server = x402ResourceServer(facilitator).register("solana:*", ExactSvmScheme())
option = PaymentOption(
    scheme="exact",
    network=setting("X402_NETWORK"),
    pay_to=setting("X402_PAY_TO"),
    price=AssetAmount(amount=setting("X402_PRICE"), asset=setting("X402_MINT")),
    max_timeout_seconds=60,
)
app = FastAPI()
app.middleware("http")(payment_middleware({"GET /exact": RouteConfig(accepts=option)}, server))


@app.get("/exact")
async def weather() -> PlainTextResponse:
    return PlainTextResponse("sunny")


listener = free_port()
tell({"listening": f"http://127.0.0.1:{listener.getsockname()[1]}"})
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])
