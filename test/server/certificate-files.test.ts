import { X509Certificate } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import type { ClientCertificateConfig } from '../../src/config/config.ts';
import { CertificateEnds } from '../../src/server/listen/certificate-ends.ts';
import { CertificateFiles } from '../../src/server/listen/certificate-files.ts';
import { checkCertificates } from '../../src/server/listen/check-certificates.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { createCertificate, writeCertificate } from '../self-signed-certificate.ts';

const DAY_MS = 86_400_000;

let folder: string;
let clock: FakeClock;
let files: CertificateFiles | undefined;
let errors: string[];
let changes: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'certificate-files-'));
  clock = new FakeClock();
  errors = [];
  changes = 0;
});
afterEach(() => {
  files?.close();
  rmSync(folder, { recursive: true });
});

function open(certificate: string, key: string, clients?: ClientCertificateConfig): CertificateFiles {
  files = new CertificateFiles({
    pairs: [{ certificate, key }],
    clients,
    minVersion: 'TLSv1.2',
    clock,
    logger: { ...silentLogger, error: (_, message) => errors.push(message) },
    onChange: () => changes++,
  });
  return files;
}

const nameIn = ({ defaultOptions }: CertificateFiles) =>
  /CN=(.*)/.exec(new X509Certificate(defaultOptions.cert as string).subject)![1];

test('a whole folder that is exchanged behind a link is found at the next look, at most 30 s later', async () => {
  for (const name of ['one', 'two']) {
    mkdirSync(join(folder, name));
    const made = writeCertificate(join(folder, name), { name: `${name}.example` });
    renameSync(made.certificate, join(folder, name, 'tls.crt'));
    renameSync(made.key, join(folder, name, 'tls.key'));
  }
  mkdirSync(join(folder, 'mounted'));
  const current = join(folder, 'mounted', 'current');
  symlinkSync(join(folder, 'one'), current);
  const opened = open(join(current, 'tls.crt'), join(current, 'tls.key'));
  expect(nameIn(opened)).toBe('one.example');

  symlinkSync(join(folder, 'two'), `${current}.next`);
  renameSync(`${current}.next`, current);
  await clock.advance(30_000);
  await vi.waitFor(() => expect(nameIn(opened)).toBe('two.example'), 15_000);
  expect(changes).toBe(1);
});

test('files that are the same again change nothing', async () => {
  const made = writeCertificate(folder, { name: 'same.example' });
  const opened = open(made.certificate, made.key);
  writeFileSync(made.certificate, readFileSync(made.certificate));
  await opened.look();
  expect(changes).toBe(0);
});

test('a file that is gone for a while is logged once, and found again', async () => {
  const made = writeCertificate(folder, { name: 'old.example' });
  const opened = open(made.certificate, made.key);
  unlinkSync(made.key);
  for (let i = 0; i < 4; i++) await opened.look();
  expect(errors).toEqual([expect.stringMatching(/ENOENT.*the one before stays in use/)]);
  expect(nameIn(opened)).toBe('old.example');
  writeCertificate(folder, { name: 'new.example' });
  renameSync(join(folder, 'new.example.crt'), made.certificate);
  renameSync(join(folder, 'new.example.key'), made.key);
  await opened.look();
  expect(nameIn(opened)).toBe('new.example');
});

test('what is read in the middle of being written is not logged', async () => {
  const made = writeCertificate(folder, { name: 'old.example' });
  const opened = open(made.certificate, made.key);
  const next = writeCertificate(folder, { name: 'next.example' });
  const text = readFileSync(next.certificate, 'utf8');
  writeFileSync(made.certificate, text.slice(0, 100));
  await opened.look();
  writeFileSync(made.certificate, text);
  await opened.look();
  writeFileSync(made.key, readFileSync(next.key));
  await opened.look();
  expect(errors).toEqual([]);
  expect(nameIn(opened)).toBe('next.example');
});

test('check says of certificates, keys and authorities what a start would say', async () => {
  const now = Date.now();
  const validTo = Math.floor(now / 1000) * 1000 + 30 * DAY_MS;
  const good = writeCertificate(folder, { name: 'a.example', validTo });
  const other = writeCertificate(folder, { name: 'b.example', validTo });
  const text = join(folder, 'text');
  writeFileSync(text, 'text');
  const mixed = { certificate: good.certificate, key: other.key };
  const whole = { ...good, certificates: [other], clientCertificates: { ca: good.certificate } };
  expect(
    await checkCertificates({ listen: [{ port: 0, tls: whole }, { port: 0, tls: 'self-signed' }, { port: 0 }] }, now),
  ).toEqual({ faults: [], warnings: [] });
  expect(
    await checkCertificates(
      { listen: [{ port: 0, tls: { certificate: join(folder, 'missing'), key: good.key } }] },
      now,
    ),
  ).toEqual({ faults: [], warnings: [] });

  const servers = ['https://localhost:1'];
  const { faults, warnings } = await checkCertificates(
    {
      listen: [{ port: 0, tls: { ...good, certificates: [mixed], clientCertificates: { ca: text } } }],
      internal: { port: 0, tls: { certificate: text, key: good.key } },
      upstreams: { app: { servers, tls: mixed }, own: { servers, tls: { ca: good.certificate, ...good } } },
    },
    now,
  );
  expect(warnings).toEqual([]);
  expect(faults.map(({ path }) => path.join('.'))).toEqual([
    'listen.0.tls.certificates.0.key',
    'listen.0.tls.clientCertificates.ca',
    'internal.tls.certificate',
    'upstreams.app.tls.key',
  ]);
  expect(faults[0]!.message).toBe(
    `the certificate ${mixed.certificate} with the key ${mixed.key} cannot be used: the key belongs to another certificate`,
  );
  expect(() => open(mixed.certificate, mixed.key)).toThrow(faults[0]!.message);
  expect(() => open(text, good.key)).toThrow(faults[2]!.message);
});

test.each(['certificate', 'key'] as const)('check calls a damaged %s that, at its own place', async what => {
  const pair = writeCertificate(folder, { name: 'a.example' });
  const lines = readFileSync(pair[what], 'utf8').split('\n');
  writeFileSync(pair[what], [...lines.slice(0, 2), ...lines.slice(3)].join('\n'));
  const { faults } = await checkCertificates({ listen: [{ port: 0, tls: pair }] }, Date.now());
  expect(faults).toEqual([
    {
      path: ['listen', 0, 'tls', what],
      message: expect.stringMatching(`the ${what} in .* is damaged or cut off \\(.*\\); write the file again$`),
    },
  ]);
});

test.each([
  ['damaged', (lines: string[]) => [...lines.slice(0, 2), ...lines.slice(3)]],
  ['cut off', (lines: string[]) => lines.slice(0, 4)],
])('check and start call a further certificate of a chain that is %s that, and say which it is', async (_, spoil) => {
  const pair = writeCertificate(folder, { name: 'a.example' });
  const other = writeCertificate(folder, { name: 'b.example' });
  const whole = readFileSync(other.certificate, 'utf8');
  const chain = join(folder, 'chain.pem');
  writeFileSync(chain, [readFileSync(pair.certificate, 'utf8'), whole, spoil(whole.split('\n')).join('\n')].join(''));
  const tls = { certificate: chain, key: pair.key };
  const { faults } = await checkCertificates({ listen: [{ port: 0, tls }] }, Date.now());
  const message = expect.stringMatching(`: certificate 3 of 3 in ${chain} is damaged or cut off \\(.*\\); write the`);
  expect(faults).toEqual([{ path: ['listen', 0, 'tls', 'certificate'], message }]);
  expect(() => open(chain, pair.key)).toThrow(faults[0]!.message);

  // Node leaves out such an authority, and then its clients are strangers.
  const trusting = { ...pair, clientCertificates: { ca: chain } };
  const judged = await checkCertificates({ listen: [{ port: 0, tls: trusting }] }, Date.now());
  expect(judged.faults).toEqual([{ path: ['listen', 0, 'tls', 'clientCertificates', 'ca'], message }]);
  expect(() => open(pair.certificate, pair.key, { ca: chain })).toThrow(`certificate 3 of 3 in ${chain} is damaged`);
});

test.each([
  ['is over', 'certificate-over', -1, 0, /ended on 20\d\d-\d\d-\d\d \d\d:\d\d UTC, and clients refuse it; renew it$/],
  ['ends within two weeks', 'certificate-ends-soon', 13, 0, /ends on .* UTC, within two weeks; renew it$/],
  ['has not begun', 'certificate-not-begun', 30, -90, /begins on .* UTC, and clients refuse it before that$/],
])('check warns of a certificate that %s', async (_, code, days, nowInDays, message) => {
  const today = Math.floor(Date.now() / 1000) * 1000;
  const dates = { validFrom: today - 60 * DAY_MS, validTo: today + days * DAY_MS };
  const pair = writeCertificate(folder, { name: 'a.example', ...dates });
  const config = { listen: [{ port: 0, tls: pair }] };
  const { faults, warnings } = await checkCertificates(config, today + nowInDays * DAY_MS);
  expect(faults).toEqual([]);
  expect(warnings).toEqual([
    { code, path: ['listen', 0, 'tls', 'certificate'], message: expect.stringMatching(message) },
  ]);
});

test.each([
  [5, []],
  [1, ['certificate-ends-soon']],
])('a certificate for six days with %i days left: check warns of %o', async (left, codes) => {
  const today = Math.floor(Date.now() / 1000) * 1000;
  const dates = { validFrom: today - (6 - left) * DAY_MS, validTo: today + left * DAY_MS };
  const config = { listen: [{ port: 0, tls: writeCertificate(folder, { name: 'a.example', ...dates }) }] };
  const { warnings } = await checkCertificates(config, today);
  expect(warnings.map(({ code }) => code)).toEqual(codes);
});

describe('while a server runs, the end of a certificate', () => {
  /** Its lines, as `days after the start: event days left`. */
  function linesOf(...certificates: { name: string; validFrom?: number; validTo: number }[]) {
    const used = certificates.map(options => ({
      file: options.name,
      certificate: new X509Certificate(createCertificate(options).certificate),
    }));
    const time = new FakeClock(today);
    const lines: string[] = [];
    const say = (fields: object) => {
      const { event, file, days } = fields as { event: string; file: string; days?: number };
      lines.push(`${Math.floor((time.now() - today) / DAY_MS)}: ${[event, file, days].filter(Boolean).join(' ')}`);
    };
    const logger = { ...silentLogger, warn: say, error: say };
    const ends = new CertificateEnds({ used: () => used, clock: time, logger });
    return { lines, time, ends, used };
  }
  const today = Math.floor(Date.now() / 1000) * 1000;

  test('is said 30, 14, 7, 3 and 1 days before, and once when it has come', async () => {
    const { lines, time, ends } = linesOf({
      name: 'a',
      validFrom: today - 10 * DAY_MS,
      validTo: today + 80.5 * DAY_MS,
    });
    for (let day = 0; day < 90; day++) await time.advance(DAY_MS);
    ends.close();
    expect(lines).toEqual([
      '51: certificate-ends-soon a 30',
      '67: certificate-ends-soon a 14',
      '74: certificate-ends-soon a 7',
      '78: certificate-ends-soon a 3',
      '80: certificate-ends-soon a 1',
      '81: certificate-over a',
    ]);
  });

  test('of a short life is said in its last third only', async () => {
    const { lines, time } = linesOf({ name: 'six-days', validFrom: today, validTo: today + 6 * DAY_MS });
    for (let day = 0; day < 7; day++) await time.advance(DAY_MS);
    expect(lines).toEqual(['5: certificate-ends-soon six-days 1', '6: certificate-over six-days']);
  });

  test('is said at the start, of each that is near, and no more once it is renewed', async () => {
    const year = { validFrom: today - 300 * DAY_MS };
    const { lines, time, ends, used } = linesOf(
      { name: 'near', ...year, validTo: today + 5 * DAY_MS },
      { name: 'over', ...year, validTo: today - 1_000 },
      { name: 'early', validFrom: today + 2 * DAY_MS, validTo: today + 90 * DAY_MS },
      { name: 'fine', ...year, validTo: today + 200 * DAY_MS },
    );
    expect(lines).toEqual([
      '0: certificate-ends-soon near 5',
      '0: certificate-over over',
      '0: certificate-not-begun early',
    ]);
    used.splice(0, 2);
    ends.review();
    for (let day = 0; day < 10; day++) await time.advance(DAY_MS);
    expect(lines).toHaveLength(3);
  });
});
