"""The Python package x402 over requests, with its `exact` scheme, in both versions of the protocol."""

from contract import calls, receipt, setting, tell
from x402 import x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.mechanisms.svm import KeypairSigner
from x402.mechanisms.svm.exact.register import register_exact_svm_client

signer = KeypairSigner.from_base58(setting("X402_PAYER"))
client = register_exact_svm_client(x402ClientSync(), signer, rpc_url=setting("X402_RPC_URL"))
# The token of a local chain is none of the stablecoins that it knows.
client.set_spend_controls({"allowed_assets": True})
http = x402_requests(client)
for _ in calls():
    try:
        response = http.get(setting("X402_URL"), timeout=60)
        tell({"status": response.status_code, "receipt": receipt(response.headers), "body": response.text})
    except Exception as error:  # whatever it was, the test is told
        tell({"error": f"{type(error).__name__}: {error}"})
