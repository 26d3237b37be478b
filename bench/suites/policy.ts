import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash } from 'bcryptjs';
import { exportJWK, SignJWT } from 'jose';
import type { Comparison, Measurement, Suite } from '../comparison.ts';
import type { ForwardOptions } from '../load/forward.ts';
import type { LoadResult } from '../load/window.ts';
import { startNginx } from '../peers/forwarding-proxies.ts';
import { type Server, startLoad, startNodeServer, startServerOf } from '../program.ts';

const CLIENTS = 64;
/** Of a peer that needs 60 ms of its one worker for each request: 64 would wait for four seconds. */
const FEW_CLIENTS = 4;

/** What stands in the arguments of `holdfast-policy.ts`, and what each client shows. */
interface Shown {
  readonly policy: readonly string[];
  /** Lines, one for each connection. */
  readonly headers: readonly string[];
}

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

const startHoldfast: Start = (port, policy, checkout) =>
  startServerOf(checkout, 'holdfast-policy.ts', String(port), ...policy);

/** `auth_basic` with the same file, which it compares with each request. */
const startNginxWithPasswords: Start = (port, [, file]) =>
  startNginx(port, undefined, `auth_basic "bench"; auth_basic_user_file ${file};`);

/** CPU time of the gateway for one request, in µs. */
function forwards(prepare: Prepare, start: Start = startHoldfast, connections = CLIENTS): Measurement {
  return async ({ warmUpMs, measureMs, checkout }) => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-policy-'));
    try {
      const { policy, headers } = await prepare(folder);
      await using backend = await startNodeServer('http-backend.ts');
      await using gateway = await start(backend.port, policy, checkout);
      const options: ForwardOptions = {
        ...{ port: gateway.port, pid: gateway.pid, connections, warmUpMs, measureMs },
        ...{ answerSize: 1024, requestSize: 0, hasSession: false, headers },
      };
      await using load = startLoad('forward.ts', options);
      const { cpuNs, messages } = await load.next<LoadResult>();
      return cpuNs / messages / 1000;
    } finally {
      await rm(folder, { recursive: true });
    }
  };
}

function against(row: string, prepare: Prepare, limit: number): Comparison {
  return {
    ...{ row: `GET, ${row}`, peer: 'the same route without', unit: 'µs CPU/request', limit },
    ours: forwards(prepare),
    theirs: forwards(open),
  };
}

export const suite: Suite = {
  title: `HTTP requests through a gateway with policies and without, ${CLIENTS} clients on kept connections`,
  comparisons: [
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
