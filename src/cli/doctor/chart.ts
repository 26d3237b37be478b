import type { FindingCode } from './findings.ts';

/** `note`: nothing is wrong, and it may be of use. */
export type Result = 'ok' | 'note' | 'warn' | 'fail';

export type StepName =
  | 'proxy'
  | 'dns'
  | 'tcp'
  | 'tls'
  | 'http'
  | 'handshake'
  | 'origin'
  | 'cookie'
  | 'subprotocol'
  | 'extensions'
  | 'ping'
  | 'size'
  | 'idle';

export interface Step {
  readonly name: StepName;
  readonly result: Result;
  /** For people, safe for a terminal. */
  readonly text: string;
}

export interface Found {
  readonly code: FindingCode;
  /** What was seen. */
  readonly text: string;
}

/** What the doctor has done and found, in its order. */
export class Chart {
  readonly steps: Step[] = [];
  readonly found: Found[] = [];
  /** What the server says that it is; empty when it says nothing. */
  server = '';
  /** The address that was connected to. */
  address = '';
  readonly #onStep: (step: Step) => void;

  /** @param onStep Called as soon as a step is done: some take a minute. */
  constructor(onStep: (step: Step) => void = () => {}) {
    this.#onStep = onStep;
  }

  note(name: StepName, result: Result, text: string): void {
    const step = { name, result, text };
    this.steps.push(step);
    this.#onStep(step);
  }

  /** A step with something wrong. The same twice is one finding. */
  report(name: StepName, result: 'warn' | 'fail', code: FindingCode, text: string): void {
    if (!this.found.some(found => found.code === code)) this.found.push({ code, text });
    this.note(name, result, text);
  }
}
