"""The MCP client of the Python package x402, over the MCP SDK for Python: pays for a tool by `exact`.

x402 2.25.0 hands its client a dictionary and reads what comes back as the wire has it; the SDK's session takes arguments and
returns models. `Session` stands between, as both are."""

import asyncio
import os

from contract import calls, setting, tell
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from x402 import x402Client
from x402.mcp import x402MCPClient
from x402.mechanisms.svm import KeypairSigner
from x402.mechanisms.svm.exact.register import register_exact_svm_client


class Result:
    """A result, by the names of the wire."""

    def __init__(self, wire: dict):
        self.content = wire.get("content", [])
        self.isError = wire.get("isError", False)
        self.structuredContent = wire.get("structuredContent")
        self._meta = wire.get("_meta") or {}


class Session:
    """A session of the SDK, as x402 calls it."""

    def __init__(self, session: ClientSession):
        self.session = session

    async def call_tool(self, params: dict, **_options) -> Result:
        result = await self.session.call_tool(params["name"], params["arguments"], meta=params.get("_meta"))
        return Result(result.model_dump(mode="json", by_alias=True, exclude_none=True))


async def main() -> None:
    signer = KeypairSigner.from_base58(setting("X402_PAYER"))
    payments = register_exact_svm_client(x402Client(), signer, rpc_url=setting("X402_RPC_URL"))
    # The token of a local chain is none of the stablecoins that it knows.
    payments.set_spend_controls({"allowed_assets": True})
    server = StdioServerParameters(command=setting("X402_TOOLS"), env=dict(os.environ))
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        client = x402MCPClient(Session(session), payments)
        sent = {}
        client.on_after_payment(lambda context: sent.update(context.payment_payload.model_dump(by_alias=True, exclude_none=True)))
        for _ in calls():
            try:
                called = await client.call_tool("weather", {"city": setting("X402_CITY")})
                receipt = called.payment_response
                tell(
                    {
                        "status": 500 if called.is_error else 200,
                        "receipt": receipt and receipt.model_dump_json(by_alias=True, exclude_none=True),
                        "body": called.content[0]["text"],
                    }
                )
            except Exception as error:  # whatever it was, the test is told
                tell({"error": f"{type(error).__name__}: {error}"})
        # The payment of the last call once more, for something else.
        again = await session.call_tool("weather", {"city": "Zug"}, meta={"x402/payment": sent})
        wire = again.model_dump(mode="json", by_alias=True, exclude_none=True)
        tell({"status": 402 if wire.get("isError") else 200, "body": wire["content"][0]["text"]})


asyncio.run(main())
