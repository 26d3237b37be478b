// Proxies to the port given as the README of http-proxy-3 shows it, with an agent that keeps connections: without one
// it ends the client's connection as well after each answer.
import { Agent, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createProxyServer } from 'http-proxy-3';
import { ready } from './control.ts';

const proxy = createProxyServer({
  target: `http://127.0.0.1:${process.argv[2]}`,
  agent: new Agent({ keepAlive: true }),
});
proxy.on('error', console.error);

const server = createServer((req, res) => void proxy.web(req, res));
server.listen(0, '127.0.0.1', () => ready((server.address() as AddressInfo).port, () => globalThis.gc?.()));
