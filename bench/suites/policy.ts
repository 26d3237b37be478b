import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportJWK, SignJWT } from 'jose';
import type { Comparison, Measurement, Suite } from '../comparison.ts';
import type { ForwardOptions } from '../load/forward.ts';
import type { LoadResult } from '../load/window.ts';
import { startLoad, startNodeServer, startServerOf } from '../program.ts';

const CLIENTS = 64;

/** What stands in the arguments of `holdfast-policy.ts`, and what each client shows. */
interface Shown {
  readonly policy: readonly string[];
  /** Lines, one for each connection. */
  readonly headers: readonly string[];
}

/** Makes what is shown, with files in a folder that is removed afterwards. */
type Prepare = (folder: string) => Promise<Shown>;

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

/** CPU time of the gateway for one request, in µs. */
function forwards(prepare: Prepare): Measurement {
  return async ({ warmUpMs, measureMs, checkout }) => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-policy-'));
    try {
      const { policy, headers } = await prepare(folder);
      await using backend = await startNodeServer('http-backend.ts');
      await using gateway = await startServerOf(checkout, 'holdfast-policy.ts', String(backend.port), ...policy);
      const options: ForwardOptions = {
        ...{ port: gateway.port, pid: gateway.pid, connections: CLIENTS, warmUpMs, measureMs },
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
  comparisons: [against('JWT (ES256)', tokens('ES256'), 1.15), against('JWT (RS256)', tokens('RS256'), 1.15)],
};
