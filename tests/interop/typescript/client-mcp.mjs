// The MCP SDK for TypeScript, as hosts use it: a wallet over standard input and output or over HTTP, and a tool that costs something.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { setting, tell } from "./contract.mjs";

const [command, ...args] = JSON.parse(setting("X402_TOOLS"));
const transport = command.startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(command))
  : new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" });
const client = new Client({ name: "interop", version: "1.0.0" });
await client.connect(transport);
// The client checks results against the schemas of the tools that it has listed.
const { tools } = await client.listTools();
tell({ status: 200, body: JSON.stringify(tools.map((tool) => tool.name)) });
for (const [name, callArguments] of JSON.parse(setting("X402_TOOL_CALLS"))) {
  try {
    const result = await client.callTool({ name, arguments: callArguments });
    const body = result.structuredContent ? JSON.stringify(result.structuredContent) : result.content[0].text;
    tell({ status: result.isError ? 500 : 200, body });
  } catch (error) {
    tell({ error: String(error?.message ?? error) });
  }
}
await client.close();
