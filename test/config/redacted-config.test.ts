import { expect, test } from 'vitest';
import { redactedConfig } from '../../src/config/redacted-config.ts';
import { configSchema } from '../../src/config/schema.ts';
import { isSecret } from '../../src/config/schema-parts.ts';
import { alternativesAt, alternativesOf, alternativesOfEntries } from '../../src/config/schema-walk.ts';

test('a configuration is shown without passwords, values of headers and secrets', () => {
  const shown = redactedConfig({
    session: { store: 'redis://user:hunter2@db:6379/0?password=hunter2' },
    upstreams: {
      app: {
        servers: [{ url: 'http://u:hunter2@10.0.0.1' }],
        health: { path: '/h', headers: { Authorization: 'Basic hunter2' } },
        sessionApi: { tokenFile: '/etc/token' },
      },
    },
    auth: { own: { type: 'function', authenticate: () => 'hunter2', clientSecret: 'hunter2', clientSecretFile: '/s' } },
    routes: [{ path: '/a', headers: { Cookie: 'hunter2' } }],
    live: new (class Store {
      password = 'hunter2';
    })(),
  });
  expect(JSON.stringify(shown)).not.toContain('hunter2');
  expect(shown).toMatchObject({
    session: { store: 'redis://***@db:6379/0?password=***' },
    upstreams: { app: { sessionApi: { tokenFile: '/etc/token' }, health: { path: '/h' } } },
    auth: { own: { authenticate: '[function]', clientSecretFile: '/s' } },
    live: '[Store]',
  });
});

test('what is not secret is shown, whatever its name', () => {
  const config = {
    session: { cookie: { name: 'sid' }, store: 'memory:' },
    upstreams: { app: { servers: ['http://10.0.0.1'], session: { mode: 'observed', cookie: 'JSESSIONID' } } },
    auth: { sso: { type: 'oidc', issuer: 'https://id.example', clientId: 'web', clientSecretVariable: 'SECRET' } },
  };
  expect(redactedConfig(config)).toEqual(config);
});

test('what stands where the schema says secret is hidden, also in lists and in what may be several things', () => {
  const headers = { Accept: 'hunter2', 'X-Key': 'hunter2' };
  const shown = redactedConfig({ upstreams: { 'a.token': { servers: ['http://a'], health: { path: '/', headers } } } });
  expect(shown).toEqual({
    upstreams: {
      'a.token': { servers: ['http://a'], health: { path: '/', headers: { Accept: '***', 'X-Key': '***' } } },
    },
  });
});

interface Text {
  readonly path: string;
  readonly isSecret: boolean;
}

/** Every place of the schema where any text may stand. */
function textsOf(schemas: ReturnType<typeof alternativesOf>, path: readonly string[]): Text[] {
  // Routes lie in applications, which have routes.
  if (path.length > 12) return [];
  return schemas.flatMap(schema => {
    const { def } = schema._zod as { def: { type: string; shape?: object } };
    if (def.type === 'string') return [{ path: path.join('.'), isSecret: isSecret(schema) }];
    if (def.type === 'object')
      return Object.keys(def.shape!).flatMap(key =>
        path.includes(key) ? [] : textsOf(alternativesAt([schema], key), [...path, key]),
      );
    if (def.type === 'record') return textsOf(alternativesAt([schema], '*'), [...path, '*']);
    return def.type === 'array' ? textsOf(alternativesOfEntries([schema]), [...path, '[]']) : [];
  });
}

/** Names that sound like a secret, where what stands there is none: files, variables, names of cookies and headers, times. */
const OPEN = new RegExp(
  `^(?:${[
    '.*(?:Files?|Variable|Headers?|Timeout|Size|Age|Type)',
    ...['key', 'keepKeys', 'header', 'headers', 'cookie', 'name', 'domain', 'path', 'prefix', 'lifetime'],
  ].join('|')})$`,
);

test('each text of the schema that sounds like a secret is one, or is known to be none', () => {
  const texts = textsOf(alternativesOf(configSchema), []);
  expect(texts.length).toBeGreaterThan(150);
  const sounding = texts.filter(({ path }) =>
    /secret|passw|pwd|token|credential|authori|cookie|header|key|ticket/i.test(path),
  );
  const nameOf = (path: string) => path.replace(/\.\[\]$/, '').replace(/^.*\./, '');
  const unknown = sounding.filter(one => !one.isSecret && !OPEN.test(nameOf(one.path)));
  expect(unknown.map(({ path }) => path)).toEqual([]);
  const secrets = texts.filter(one => one.isSecret).map(({ path }) => path);
  expect([...new Set(secrets)]).toEqual(['upstreams.*.health.headers.*']);
});

test('errors of the schema repeat no text that is secret', () => {
  const wrong = {
    upstreams: { app: { servers: ['http://a'], health: { path: '/', headers: { 'X-Key': 'hunter2\n' } } } },
  };
  const { error } = configSchema.safeParse(wrong);
  expect(error!.issues.length).toBeGreaterThan(0);
  expect(JSON.stringify(error!.issues.map(({ message }) => message))).not.toContain('hunter2');
});
