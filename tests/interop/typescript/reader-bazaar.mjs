// The catalogue as @x402/extensions reads it: one line with what is listed at X402_URL, by listing, by search, and checked by
// the rules of that package.
import { setting, tell } from "./contract.mjs";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { validateDiscoveryExtension, validateDiscoveryExtensionSpec, withBazaar } from "@x402/extensions/bazaar";

const { bazaar } = withBazaar(new HTTPFacilitatorClient({ url: setting("X402_FACILITATOR") })).extensions;
const filter = { type: "http", scheme: "exact", network: setting("X402_NETWORK"), payTo: setting("X402_PAY_TO"), extensions: "bazaar" };
const is = ({ resource }) => resource === setting("X402_URL");

const listed = [];
for (let offset = 0, total = 1; offset < total; ) {
  const page = await bazaar.listResources({ ...filter, limit: 1, offset });
  listed.push(...page.items);
  total = page.pagination.total;
  offset += page.items.length || total;
}
const searched = [];
let cursor;
do {
  const page = await bazaar.search({ ...filter, query: "the weather", limit: 1, ...(cursor && { cursor }) });
  searched.push(...page.resources);
  cursor = page.pagination?.cursor;
} while (cursor);

const item = listed.find(is);
const extension = item?.extensions?.bazaar;
const body = {
  item,
  listedOnce: listed.filter(is).length === 1,
  foundOnce: searched.filter(is).length === 1,
  spec: extension && validateDiscoveryExtensionSpec(extension),
  schema: extension && validateDiscoveryExtension(extension),
};
tell({ status: 200, body: JSON.stringify(body) });
