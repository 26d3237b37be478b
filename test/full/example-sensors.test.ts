import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { connect, refusedWith, start } from '../examples/example-client.ts';
import type { ExampleProcess } from '../examples/example-process.ts';
import { Network, Visitor } from '../examples/visitor.ts';

const PROGRAM = fileURLToPath(new URL('../../examples/sensors/sensor.ts', import.meta.url));

interface Summary {
  last: number;
  count: number;
  sum: number;
  min: number;
  max: number;
}

/** The device as a process. What it prints are its readings that were taken. */
class Sensor {
  /** Time and value. */
  readonly taken = new Map<number, number>();
  readonly #process: ChildProcess;
  #wake = () => {};

  constructor(url: string, device: string, folder: string) {
    this.#process = spawn(process.execPath, [PROGRAM, url, device], {
      cwd: folder,
      env: { ...process.env, EVERY_MS: '5' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => this.stop());
    createInterface(this.#process.stdout!).on('line', line => {
      const [at, value] = line.split(' ').map(Number) as [number, number];
      expect([at, this.taken.has(at)]).toEqual([at, false]);
      this.taken.set(at, value);
      this.#wake();
    });
  }

  /** Resolves when so many more are taken. */
  async takes(more: number): Promise<void> {
    const count = this.taken.size + more;
    await this.#until(() => this.taken.size >= count);
  }

  /** The values up to this time, when it has been told that they were taken. */
  async valuesUpTo(last: number): Promise<number[]> {
    await this.#until(() => this.taken.has(last));
    return [...this.taken].filter(([at]) => at <= last).map(([, value]) => value);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition())
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
  }
}

const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-sensor-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** What the dashboard says of a device is what the device was told to be taken: no reading more or less, or twice. */
async function expectAgreement(example: ExampleProcess, device: string, sensor: Sensor): Promise<void> {
  const dashboard = await new Visitor(example).tab('/dashboard');
  const { summary } = await dashboard.next<{ summary: Summary }>({ device });
  const values = await sensor.valuesUpTo(summary.last);
  expect(summary.count).toBe(values.length);
  expect(summary.sum).toBeCloseTo(sum(values));
  expect([summary.min, summary.max]).toEqual([Math.min(...values), Math.max(...values)]);
}

test('sensors: every reading counts once, through cut connections and kill -9 of the server and of the device', async () => {
  const example = await start('sensors');
  const network = new Network(example);
  const folder = await temporaryFolder();
  const url = await network.start();
  const kitchen = new Sensor(url, 'kitchen', folder);
  const people = new Visitor(example);
  expect(await people.navigate()).toContain('<title>Sensors</title>');
  expect(people.cookie).toBe('');
  await kitchen.takes(10);

  network.cut();
  await kitchen.takes(10);
  await example.kill();
  await example.start();
  await kitchen.takes(30);
  network.cut();
  await kitchen.takes(10);
  await expectAgreement(example, 'kitchen', kitchen);
  await kitchen.stop();

  // Started again it is the same device: its readings come on top of those before.
  const dashboard = await people.tab('/dashboard');
  const again = new Sensor(url, 'kitchen', folder);
  await again.takes(10);
  const [first, last] = [[...again.taken.keys()][0]!, [...again.taken.keys()][9]!];
  let before: Summary | undefined;
  let after: Summary | undefined;
  while (!after) {
    const { summary } = await dashboard.next<{ summary: Summary }>({ device: 'kitchen' });
    if (summary.last < first) before = summary;
    if (summary.last === last) after = summary;
  }
  expect(before!.count).toBeGreaterThanOrEqual(kitchen.taken.size);
  expect(after.count - before!.count).toBe(10);
  expect(after.sum - before!.sum).toBeCloseTo(sum([...again.taken.values()].slice(0, 10)));
});

test('sensors: every device has a summary of its own, and kill -9 takes nothing from it', async () => {
  const example = await start('sensors');
  const folder = await temporaryFolder();
  const sensors = ['kitchen', 'cellar', 'roof'].map(
    device => [device, new Sensor(example.origin, device, folder)] as const,
  );
  await Promise.all(sensors.map(([, sensor]) => sensor.takes(20)));
  await example.kill();
  await example.start();
  await Promise.all(sensors.map(([, sensor]) => sensor.takes(10)));
  for (const [device, sensor] of sensors) await expectAgreement(example, device, sensor);
});

test('sensors: a reading that is sent again counts once, and nonsense closes', async () => {
  const example = await start('sensors');
  const device = new Visitor(example);
  expect((await device.post('/devices', new URLSearchParams({ device: 'attic' }))).status).toBe(201);
  const tab = await device.tab('/readings', { origin: undefined as never });
  expect(await tab.next()).toEqual({ taken: 0 });
  expect(await tab.ask({ at: 100, value: 20 })).toEqual({ taken: 100 });
  expect(await tab.ask({ at: 200, value: 22 })).toEqual({ taken: 200 });
  expect(await tab.ask({ at: 200, value: 22 })).toEqual({ taken: 200 });
  const dashboard = await device.tab('/dashboard');
  expect(await dashboard.next()).toMatchObject({ device: 'attic', summary: { count: 2, sum: 42, min: 20, max: 22 } });
  tab.send({ at: 300, value: 'warm' });
  expect(await tab.closed).toBe(1008);
});

test('sensors: no page speaks for a device, and who has not registered is told so', async () => {
  const example = await start('sensors');
  const device = new Visitor(example);
  await device.post('/devices', new URLSearchParams({ device: 'attic' }));
  for (const origin of [example.origin, 'https://stranger.example'])
    expect(await refusedWith(connect(example, '/readings', { origin, headers: { cookie: device.cookie } }))).toBe(403);
  const unknown = await new Visitor(example).tab('/readings', { origin: undefined as never });
  expect(await unknown.closed).toBe(1008);
  expect((await device.post('/devices', new URLSearchParams({ device: '../etc' }))).status).toBe(400);
});
