"""The Python package x402 over httpx, with its `exact` scheme, in both versions of the protocol."""

import asyncio

from contract import calls, receipt, setting, tell
from x402 import x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.svm import KeypairSigner
from x402.mechanisms.svm.exact.register import register_exact_svm_client


async def main() -> None:
    signer = KeypairSigner.from_base58(setting("X402_PAYER"))
    client = register_exact_svm_client(x402Client(), signer, rpc_url=setting("X402_RPC_URL"))
    # The token of a local chain is none of the stablecoins that it knows.
    client.set_spend_controls({"allowed_assets": True})
    async with x402HttpxClient(client, timeout=60) as http:
        for _ in calls():
            try:
                response = await http.get(setting("X402_URL"))
                tell({"status": response.status_code, "receipt": receipt(response.headers), "body": response.text})
            except Exception as error:  # whatever it was, the test is told
                tell({"error": f"{type(error).__name__}: {error}"})


asyncio.run(main())
