import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { examine } from '../../src/cli/examine.ts';
import { explainWarning } from '../../src/cli/warning-page.ts';
import { readConfig } from '../../src/config/load.ts';
import { WARNING_CODES } from '../../src/config/warning-codes.ts';
import { createAuthority, createCertificate, createRevocationList } from '../self-signed-certificate.ts';

const page = readFileSync(new URL('../../docs/reference/config-warnings.md', import.meta.url), 'utf8');
const sections = page
  .split(/^(?=#{2,3} )/m)
  .filter(part => part.startsWith('### '))
  .map(part => ({ code: part.slice(4, part.indexOf('\n')), text: part }));

const DAY_MS = 86_400_000;
let folder: string;

/** The files that the examples of the page name. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-warnings-'));
  mkdirSync(join(folder, 'tls'));
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  const fromNow = (days: number) => Math.floor(Date.now() / 1_000) * 1_000 + days * DAY_MS;
  const certificates = {
    good: { validTo: fromNow(90) },
    over: { validTo: fromNow(0) - 1_000 },
    soon: { validFrom: fromNow(-60), validTo: fromNow(5) },
    early: { validFrom: fromNow(1), validTo: fromNow(90) },
  };
  for (const [name, times] of Object.entries(certificates)) {
    const { certificate, key } = createCertificate({ name: 'localhost', ...times });
    write(`tls/${name}.crt`, certificate);
    write(`tls/${name}.key`, key);
  }
  const [clients, others] = [createAuthority('clients'), createAuthority('others')];
  write('tls/clients.crt', clients.certificate);
  write('tls/over.crl', createRevocationList({ authority: clients, nextUpdate: fromNow(0) - 1_000 }));
  write('tls/soon.crl', createRevocationList({ authority: clients, nextUpdate: fromNow(3) }));
  write('tls/other.crl', createRevocationList({ authority: others }));
  const alice = 'alice:$2y$10$WqLxoZYwJfTkXn6FJJ4GQ.yJmJ6e1g1Q3m2c5dZ0h8bV7u4n3p2lC\n';
  write('users.htpasswd', alice);
  write('twice.htpasswd', alice + alice);
  write('weak.htpasswd', 'bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n');
  write('empty.htpasswd', '\n');
  write('session.key', 'a-key-of-sessions-that-is-long-enough-for-all');
  write('secret', 'a-secret-of-the-provider-that-is-long-enough');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** As an ordinary user. */
const mayListen = async (port: number) => port >= 1024;

async function examined(yaml: string, probe = false) {
  const file = join(folder, 'holdfast.yaml');
  writeFileSync(file, yaml);
  const { errors, warnings, accepted } = await examine(await readConfig(file), { probe, mayListen });
  expect(errors).toEqual([]);
  const codes = (problems: typeof warnings) => problems.map(({ code, path }) => `${code} ${path}`);
  return { warnings: codes(warnings), accepted: codes(accepted) };
}

test('the image has the page that "holdfast check --explain" reads', () => {
  const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
  expect(read('.dockerignore')).toMatch(/^!docs\/reference\/config-warnings\.md$/m);
  expect(read('Containerfile')).toMatch(/^RUN .*cp -r --parents .*docs\/reference\/config-warnings\.md .*\/image$/m);
});

test('docs/reference/config-warnings.md has exactly one section per code of a warning', () => {
  expect(sections.map(({ code }) => code).sort()).toEqual([...WARNING_CODES].sort());
});

test.each(sections)(
  'the section $code says what it means, why it matters, what to do, and when to live with it',
  ({ text }) => {
    const [, meaning, ...rest] = text.split('\n').filter(line => line !== '');
    expect(meaning).toMatch(/^[A-Z`].*\.$/);
    expect(rest.slice(0, 3)).toEqual([
      expect.stringMatching(/^- \*\*Why it matters:\*\* .*\.$/),
      expect.stringMatching(/^- \*\*What to do:\*\* .*\.$/),
      expect.stringMatching(/^- \*\*Accept it when\*\* .*\.$/),
    ]);
  },
);

test.each(sections)('the example of $code gives that warning and no other', async ({ code, text }) => {
  const yaml = /^```yaml\n([\s\S]*?)^```$/m.exec(text)![1]!;
  const { warnings } = await examined(yaml, code.endsWith('-probe'));
  expect([...new Set(warnings.map(warning => warning.split(' ')[0]))]).toEqual([code]);
});

test.each(sections)('the warning of the example of $code is gone when it is accepted', async ({ code, text }) => {
  const yaml = /^```yaml\n([\s\S]*?)^```$/m.exec(text)![1]!;
  // There the list is there already.
  const accepting = code === 'accept-unused' ? yaml.replace('[', `[${code}, `) : `accept: [${code}]\n${yaml}`;
  const { warnings, accepted } = await examined(accepting, code.endsWith('-probe'));
  expect(warnings).toEqual([]);
  expect(accepted.length).toBeGreaterThan(0);
});

test('a code is explained by its section of the page', () => {
  expect(explainWarning('self-signed')).toMatch(/^self-signed\n\n.*- \*\*What to do:\*\* .*\n```$/s);
});

describe('a warning that is accepted', () => {
  const routes = [
    'upstreams: { app: { servers: [http://localhost:3000] } }',
    'routes:',
    '  - { path: /a, upstream: app, policy: { origins: any } }',
    '  - { path: /b, upstream: app, policy: { origins: any } }',
    '',
  ].join('\n');

  test('hides no other of its code where it names a place', async () => {
    expect(await examined(`accept: [{ warning: any-origin, at: "routes[1]" }]\n${routes}`)).toEqual({
      warnings: ['any-origin routes[0].policy.origins'],
      accepted: ['any-origin routes[1].policy.origins'],
    });
  });

  test('hides nothing at a place whose name begins alike', async () => {
    const { warnings, accepted } = await examined(
      `accept: [{ warning: unused, at: upstreams.ap }]\nupstreams: { app: { servers: [http://localhost:1] } }\nroutes: [{ path: /, redirect: /a }]\n`,
    );
    expect(warnings).toEqual(['accept-unused accept[0]', 'unused upstreams.app']);
    expect(accepted).toEqual([]);
  });

  test('is no entry too many while only a probe could find it', async () => {
    expect((await examined(`accept: [upstream-probe]\n${routes.replaceAll('any', '[self]')}`)).warnings).toEqual([]);
  });

  test.each(['privileged-port', 'address-not-here', 'group-not-here'])(
    'is no entry too many where %s depends on the machine',
    async code => {
      expect((await examined(`accept: [${code}]\n${routes.replaceAll('any', '[self]')}`)).warnings).toEqual([]);
    },
  );

  test.each([
    ['self-singed', 'accept[0]: "self-singed" is not the code of a warning; did you mean "self-signed"?'],
    ['{ warning: unused }', 'accept[0].at: is missing; expected text'],
    ['7', 'accept[0]: expected the code of a warning, or "warning" and "at", got 7'],
  ])('is named by a code that there is: %s', async (entry, message) => {
    await expect(examined(`accept: [${entry}]\n${routes}`)).rejects.toThrow(message);
  });
});
