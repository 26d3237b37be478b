// The device: no browser, so it keeps its cookie itself, and what was not taken yet.
//   node sensor.ts http://localhost:8080 kitchen
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';

const [url = 'http://localhost:8080', device = 'kitchen'] = process.argv.slice(2);
const EVERY_MS = Number(process.env.EVERY_MS ?? 1_000);
const MAX_WAITING = 10_000;
const SHORTEST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 10_000;
const SESSION_OVER = 1008;

/** Readings that the server has not acknowledged, oldest first. */
const waiting: { at: number; value: number }[] = [];
/** The time of the last reading. */
let last = 0;
let temperature = 20;
let socket: WebSocket | undefined;
let delay = SHORTEST_DELAY_MS;

function measure(): void {
  temperature += Math.random() - 0.5;
  last = Math.max(Date.now(), last + 1); // always later than the one before, whatever the clock does
  const reading = { at: last, value: Number(temperature.toFixed(2)) };
  waiting.push(reading);
  if (waiting.length > MAX_WAITING) waiting.shift();
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(reading));
}

async function register(): Promise<string> {
  const response = await fetch(`${url}/devices`, { method: 'POST', body: new URLSearchParams({ device }) });
  if (!response.ok) throw new Error(`not registered: ${response.status}`);
  const cookie = response.headers.getSetCookie()[0]!.split(';')[0]!;
  mkdirSync('./data', { recursive: true });
  writeFileSync(`./data/${device}.cookie`, cookie, { mode: 0o600 }); // whoever has it is this device
  return cookie;
}

function readCookie(): string | undefined {
  try {
    return readFileSync(`./data/${device}.cookie`, 'utf8');
  } catch {
    return undefined;
  }
}

/** Sends readings for as long as the connection lives. Resolves with its close code. */
function report(cookie: string): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const opened = new WebSocket(`${url.replace('http', 'ws')}/readings`, { headers: { cookie } });
  let isFirst = true;
  opened.onmessage = ({ data }) => {
    const { taken } = JSON.parse(data);
    while (waiting[0] && waiting[0].at <= taken) {
      const { at, value } = waiting.shift()!;
      console.log(`${at} ${value}`);
    }
    if (!isFirst) return;
    isFirst = false;
    delay = SHORTEST_DELAY_MS;
    last = Math.max(last, taken);
    for (const reading of waiting) opened.send(JSON.stringify(reading));
    socket = opened;
  };
  opened.onclose = ({ code }) => resolve(code);
  return promise;
}

setInterval(measure, EVERY_MS);
let cookie = readCookie();
for (;;) {
  try {
    cookie ??= await register();
    const code = await report(cookie);
    if (code === SESSION_OVER) cookie = undefined; // it is not known there any more: registers again
  } catch (error) {
    console.error(String(error));
  }
  await wait(delay * (0.5 + Math.random())); // not all devices at the same moment
  delay = Math.min(delay * 2, LONGEST_DELAY_MS);
}
