import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';

let cwd: string;
const programs: Holdfast[] = [];
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'holdfast-trace-'));
});
afterEach(async () => {
  for (const program of programs) program.kill('SIGKILL');
  await Promise.all(programs.splice(0).map(program => program.ended));
  rmSync(cwd, { recursive: true });
});

function run(...args: string[]): Holdfast {
  const program = new Holdfast(args, { cwd });
  programs.push(program);
  return program;
}

test('holdfast trace prints the steps of requests of the server of its folder, for people and as JSON, and why it ends', async () => {
  const config = 'listen: [{ port: 0, host: 127.0.0.1 }]\nsession: false\nroutes: [{ path: /shop, redirect: /cart }]\n';
  writeFileSync(join(cwd, 'holdfast.yaml'), config);
  const server = run('serve');
  const [, url] = await server.printed(/listening on (http:\/\/\S+)/);
  const people = run('trace', '--path', '/sho');
  const programs = run('trace', '--json');
  await expect
    .poll(
      async () => {
        await fetch(`${url}/shopp`);
        await fetch(`${url}/other`);
        return people.stdout.includes(' answer') && programs.stdout.includes('"answer"');
      },
      { timeout: 20_000, interval: 200 },
    )
    .toBe(true);
  expect(people.stdout).toMatch(/^\d\d:\d\d:\d\d\.\d{3} t\w+ +\d+\.\d{3} ms {2}head +GET \/shopp for http:/m);
  expect(people.stdout).toMatch(/route +404 ERR_ROUTE_NOT_FOUND: no route .*; nearest: \/shop/);
  expect(people.stdout).not.toContain('/other');
  // Not a terminal.
  expect(people.stdout).not.toContain('\u001b');
  const [line] = programs.stdout.split('\n');
  expect(JSON.parse(line!)).toMatchObject({ step: 'head', ok: true, id: expect.any(String), ms: expect.any(Number) });
  people.kill('SIGINT');
  expect([await people.ended, people.stderr]).toEqual([0, '']);
  writeFileSync(join(cwd, 'holdfast.yaml'), `${config}admin: { socket: other.sock }\n`);
  const why = 'a reload has changed the admin API; the server runs on, and can be followed again\n';
  expect([await programs.ended, programs.stderr]).toEqual([0, why]);
  const again = run('trace', '--json');
  await expect
    .poll(
      async () => {
        await fetch(`${url}/shopp`);
        return again.stdout.includes('"answer"');
      },
      { timeout: 20_000, interval: 200 },
    )
    .toBe(true);
  server.kill('SIGTERM');
  expect(await server.ended).toBe(0);
  expect([await again.ended, again.stderr]).toEqual([0, 'the server has ended\n']);
});

test('holdfast trace says what to do when no server runs in its folder', async () => {
  const trace = run('trace');
  expect(await trace.ended).toBe(1);
  expect(trace.stderr).toMatch(/no server runs with this data folder.*holdfast serve/);
});
