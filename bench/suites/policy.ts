import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash } from 'bcryptjs';
import { exportJWK, SignJWT } from 'jose';
import type { Comparison, Effort, Measurement, SideBySide, Suite } from '../comparison.ts';
import type { ConnectOptions } from '../load/connect.ts';
import type { ForwardOptions } from '../load/forward.ts';
import type { LoadResult } from '../load/window.ts';
import { type EchoWork, echo, type Subject } from '../measurements.ts';
import { startNginx } from '../peers/forwarding-proxies.ts';
import { type Server, startLoad, startNodeServer, startServerOf } from '../program.ts';
import { inTurns, TURN_MS } from '../turns.ts';

const CLIENTS = 64;
/** Of a peer that needs 60 ms of its one worker for each request: 64 would wait for four seconds. */
const FEW_CLIENTS = 4;

/** What stands in the arguments of `holdfast-policy.ts`, and what each client shows. */
interface Shown {
  readonly policy: readonly string[];
  /** Lines, one for each connection. */
  readonly headers: readonly string[] | SignIn;
}

/** What a client shows that has signed in to the server first. */
type SignIn = (port: number) => Promise<string>;

/** Makes what is shown, with files in a folder that is removed afterwards. */
type Prepare = (folder: string) => Promise<Shown>;
/** Starts what stands before the backend. */
type Start = (backendPort: number, policy: readonly string[], checkout?: string) => Promise<Server>;

const open: Prepare = async () => ({ policy: ['open'], headers: [] });

/** Each client has a token of its own. */
function tokens(alg: 'ES256' | 'RS256'): Prepare {
  return async folder => {
    const { privateKey, publicKey } =
      alg === 'ES256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('rsa', { modulusLength: 2048 });
    const file = join(folder, 'jwks.json');
    await writeFile(file, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'bench', alg }] }));
    const headers = await Promise.all(
      Array.from({ length: CLIENTS }, async (_, index) => {
        const token = new SignJWT({ scope: 'read write' })
          .setProtectedHeader({ alg, kid: 'bench', typ: 'at+jwt' })
          .setIssuer('https://issuer.example')
          .setAudience('bench')
          .setSubject(`user-${index}`)
          .setJti(`token-${index}`)
          .setIssuedAt()
          .setExpirationTime('1h');
        return `Authorization: Bearer ${await token.sign(privateKey)}`;
      }),
    );
    return { policy: ['jwt', file], headers };
  };
}

/** Bcrypt of cost 10, one user for all clients. */
const password: Prepare = async folder => {
  const file = join(folder, 'users');
  // The workers of nginx are another user.
  await chmod(folder, 0o755);
  await writeFile(file, `bench:${await hash('secret', 10)}\n`);
  const header = `Authorization: Basic ${Buffer.from('bench:secret').toString('base64')}`;
  return { policy: ['basic', file], headers: Array(CLIENTS).fill(header) };
};

/** What a login by the form of the server leaves in a browser, the same for all clients. */
const form: Prepare = async folder => {
  const { policy } = await password(folder);
  return { policy: ['form', policy[1]!], headers: signInByForm };
};

/** What a visit leaves in a browser: the session of nobody. */
const visit: Prepare = async () => ({
  policy: ['visited'],
  headers: async port => {
    const page = await fetch(`http://127.0.0.1:${port}/0/10`, { headers: { Accept: 'text/html' } });
    return `Cookie: ${cookiesOf(page).at(-1)}`;
  },
});

function cookiesOf({ headers }: Response): string[] {
  return headers.getSetCookie().map(line => line.split(';')[0]!);
}

async function signInByForm(port: number): Promise<string> {
  const url = `http://127.0.0.1:${port}`;
  const ofOwnPage = { Accept: 'text/html', Origin: url };
  const page = await fetch(`${url}/login`, { headers: ofOwnPage });
  const fields = [...(await page.text()).matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)">/g)];
  const decoded = (html: string) => html.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
  const body = new URLSearchParams(fields.map(([, name, value]) => [name!, decoded(value!)]));
  body.set('j_username', 'bench');
  body.set('j_password', 'secret');
  const headers = { ...ofOwnPage, Cookie: cookiesOf(page).join('; ') };
  const signedIn = await fetch(`${url}/j_security_check`, { method: 'POST', body, headers, redirect: 'manual' });
  // `fetch` is a script, and is led nowhere.
  if (signedIn.status !== 204) throw new Error(`the login was answered with ${signedIn.status}`);
  return `Cookie: ${cookiesOf(signedIn).at(-1)}`;
}

/** Without sessions, as its peer. */
const chain: Prepare = async () => ({ policy: ['chain'], headers: [] });

const startHoldfast: Start = (port, policy, checkout) =>
  startServerOf(checkout, 'holdfast-policy.ts', String(port), ...policy);

/** `auth_basic` with the same file, which it compares with each request. */
const startNginxWithPasswords: Start = (port, [, file]) =>
  startNginx(port, undefined, `auth_basic "bench"; auth_basic_user_file ${file};`);

/** A gateway before a backend of its own, and clients that ask it. */
async function startForwarding(
  prepare: Prepare,
  { start, connections }: { start: Start; connections: number },
  effort: Effort,
  byTurns?: true,
) {
  await using parts = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-policy-'));
  parts.defer(() => rm(folder, { recursive: true }));
  const { policy, headers } = await prepare(folder);
  const backend = parts.use(await startNodeServer('http-backend.ts'));
  const { port, pid } = parts.use(await start(backend.port, policy, effort.checkout));
  const options: ForwardOptions = {
    ...{ port, pid, connections, warmUpMs: effort.warmUpMs, measureMs: byTurns ? TURN_MS : effort.measureMs },
    ...{ answerSize: 1024, requestSize: 0, hasSession: false, ...(byTurns && { inTurns: byTurns }) },
    headers: typeof headers === 'function' ? Array(connections).fill(await headers(port)) : headers,
  };
  const load = parts.use(startLoad('forward.ts', options));
  const kept = parts.move();
  return { load, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** CPU time of the gateway for one request, in µs. */
function forwards(prepare: Prepare, start: Start = startHoldfast, connections = CLIENTS): Measurement {
  return async effort => {
    await using forwarding = await startForwarding(prepare, { start, connections }, effort);
    const { cpuNs, messages } = await forwarding.load.next<LoadResult>();
    return cpuNs / messages / 1000;
  };
}

/** The same of two gateways of ours, by turns. */
function forwardsSideBySide(ours: Prepare, theirs: Prepare): SideBySide {
  return async effort => {
    const by = { start: startHoldfast, connections: CLIENTS };
    await using our = await startForwarding(ours, by, effort, true);
    await using their = await startForwarding(theirs, by, effort, true);
    return await inTurns(our.load, their.load, effort);
  };
}

/** Both sides of a row: beside each other, and each alone for a comparison with another checkout. */
function gateways(ours: Prepare, theirs: Prepare): Pick<Comparison, 'ours' | 'theirs' | 'sideBySide'> {
  return { ours: forwards(ours), theirs: forwards(theirs), sideBySide: forwardsSideBySide(ours, theirs) };
}

/** Clients send the same to both. */
function against(row: string, prepare: Prepare, limit: number | null): Comparison {
  const without: Prepare = async folder => ({ ...(await prepare(folder)), policy: ['open'] });
  return {
    ...{ row: `GET, ${row}`, peer: 'the same route without', unit: 'µs CPU/request', limit },
    ...gateways(prepare, without),
  };
}

/** An endpoint, or a relay to an echo, with a policy. */
function sockets(target: 'endpoint' | 'relay', policy: string): Subject {
  return {
    async start(_, checkout) {
      if (target === 'endpoint') return startServerOf(checkout, 'holdfast-policy.ts', 'endpoint', policy);
      const backend = await startNodeServer('ws.ts', 'echo');
      const gateway = await startServerOf(checkout, 'holdfast-policy.ts', String(backend.port), policy);
      return {
        ...{ pid: gateway.pid, port: gateway.port, collect: () => gateway.collect() },
        async [Symbol.asyncDispose]() {
          await gateway[Symbol.asyncDispose]();
          await backend[Symbol.asyncDispose]();
        },
      };
    },
  };
}

/** CPU time of the server for one handshake, one echo and the end of the connection, in µs. */
function connects(target: 'endpoint' | 'relay', policy: string): Measurement {
  return async ({ warmUpMs, measureMs, checkout }) => {
    await using server = await sockets(target, policy).start('echo', checkout);
    const options: ConnectOptions = { port: server.port, path: '/', lines: 50, pid: server.pid, warmUpMs, measureMs };
    await using load = startLoad('connect.ts', options);
    const { cpuNs, messages } = await load.next<LoadResult>();
    return cpuNs / messages / 1000;
  };
}

const small: EchoWork = { size: 64, connections: 100, inFlight: 1 };

function chainRows(target: 'endpoint' | 'relay'): Comparison[] {
  return [
    {
      ...{
        row: `${target}: connect, one echo, end, the whole chain`,
        peer: 'without',
        unit: 'µs CPU/connect',
        limit: 1.25,
      },
      ...{ ours: connects(target, 'chain'), theirs: connects(target, 'open') },
    },
    {
      ...{ row: `${target}: echo 64 B, the whole chain`, peer: 'without', unit: 'µs CPU/message', limit: 1.05 },
      ...{ ours: echo(sockets(target, 'chain'), small), theirs: echo(sockets(target, 'open'), small) },
    },
  ];
}

export const suite: Suite = {
  title: `routes with policies and without, HTTP by ${CLIENTS} clients on kept connections`,
  comparisons: [
    against('the whole chain', chain, 1.25),
    ...chainRows('endpoint'),
    ...chainRows('relay'),
    {
      ...{ row: 'GET, form session', peer: 'the session of a visitor', unit: 'µs CPU/request', limit: 1.15 },
      ...gateways(form, visit),
    },
    // Most of it is the price of a session, which the route without has not.
    {
      ...{ row: 'GET, form session', peer: 'no session', unit: 'µs CPU/request', limit: null },
      ...gateways(form, open),
    },
    against('JWT (ES256)', tokens('ES256'), 1.15),
    against('JWT (RS256)', tokens('RS256'), 1.15),
    against('Basic (bcrypt, cost 10)', password, 1.15),
    {
      ...{ row: 'GET, Basic (bcrypt, cost 10)', peer: 'nginx auth_basic', unit: 'µs CPU/request', limit: 0.2 },
      ours: forwards(password),
      theirs: forwards(password, startNginxWithPasswords, FEW_CLIENTS),
    },
  ],
};
