import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { connect, nextMessage, refusedWith, start } from './example-client.ts';
import type { ExampleProcess } from './example-process.ts';

let folder: string;
let ca: Buffer;
let example: ExampleProcess;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-tls-'));
  const { certificate, key } = writeSelfSignedCertificate(folder);
  ca = readFileSync(certificate);
  example = await start('confidential', { PLAIN_PORT: '0', CERTIFICATE: certificate, KEY: key });
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('confidential takes wss', async () => {
  expect(example.origin).toMatch(/^https:/);
  expect(await nextMessage(connect(example, '/demo', { ca }))).toBe('nobody else reads this');
});

test('confidential refuses ws with 403, whatever the client claims', async () => {
  const [, plain] = example.origins;
  expect(plain).toMatch(/^http:/);
  const overPlain = { origin: plain!, url: (path: string) => plain + path };
  expect(await refusedWith(connect(overPlain, '/demo'))).toBe(403);
  const headers = { 'x-forwarded-proto': 'https', forwarded: 'proto=https' };
  expect(await refusedWith(connect(overPlain, '/demo', { headers }))).toBe(403);
});
