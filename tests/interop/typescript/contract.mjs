// What every adapter here has in common: settings from the environment, one line of JSON for what happened.

/** A setting that must be there. */
export function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

/** Says something to the test, as a line of its own. */
export function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** The receipt of a call. x402-axum 2.0.2 sends that of the first version in the header of the second. */
const receipt = (headers) => headers.get("X-PAYMENT-RESPONSE") ?? headers.get("PAYMENT-RESPONSE");

/** Calls `X402_URL` so often, one call after another, and tells what came back. */
export async function call(fetchPaid) {
  for (let calls = Number(process.env.X402_CALLS ?? "1"); calls > 0; calls -= 1) {
    try {
      const response = await fetchPaid(setting("X402_URL"));
      tell({ status: response.status, receipt: receipt(response.headers), body: await response.text() });
    } catch (error) {
      tell({ error: String(error?.message ?? error) });
    }
  }
}

/** Serves an express application on a free port, and tells where. */
export function listen(app) {
  const server = app.listen(0, "127.0.0.1", () => tell({ listening: `http://127.0.0.1:${server.address().port}` }));
}
