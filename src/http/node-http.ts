/**
 * `node:http`. An `import` of it reads every name that it exports, and behind three of them (`WebSocket`, `CloseEvent`,
 * `MessageEvent`) lies Node's other HTTP client, of which we have no use: half of what Node itself needs for its start,
 * again.
 */
export const http: typeof import('node:http') = process.getBuiltinModule('node:http');
