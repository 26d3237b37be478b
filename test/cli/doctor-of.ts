import type { Chart, StepName } from '../../src/cli/doctor/chart.ts';
import { type DoctorOptions, examineUrl } from '../../src/cli/doctor/examine-url.ts';
import { readTarget } from '../../src/cli/doctor/target.ts';

export interface Diagnosis {
  readonly chart: Chart;
  /** The codes of what was found, in their order. */
  readonly codes: readonly string[];
  /** What one step says, behind its result: `ok 101 in 1 ms`. */
  said(name: StepName): string;
}

/** What the doctor finds. Each answer has two seconds, unless a test says otherwise. */
export async function doctorOf(
  url: string,
  { connect, ...options }: Partial<DoctorOptions> & { connect?: string } = {},
): Promise<Diagnosis> {
  const chart = await examineUrl(readTarget(url, connect), {
    headers: [],
    cookie: undefined,
    subprotocols: [],
    idleMs: 0,
    timeoutMs: 2_000,
    isInsecure: false,
    sendsMessages: false,
    ...options,
  });
  const said = (name: StepName) =>
    chart.steps
      .filter(step => step.name === name)
      .map(({ result, text }) => `${result} ${text}`)
      .join('\n');
  return { chart, codes: chart.found.map(({ code }) => code), said };
}
