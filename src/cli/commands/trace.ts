import { isatty } from 'node:tty';
import { styleText } from 'node:util';
import { hasColours } from '../../server/log/colours.ts';
import { jsonLine } from '../../server/log/escape.ts';
import { standardOutput } from '../../server/log/standard-output.ts';
import { AdminClient, adminOptions } from '../admin-client.ts';
import type { Command } from '../command.ts';

/** As `GET /v1/trace` of the admin API gives them. */
interface Line {
  readonly time: string;
  readonly id: string;
  readonly step: string;
  readonly ms: number;
  readonly ok: boolean;
  readonly text: string;
}

const STEP_WIDTH = 'backend-session'.length;

export const trace: Command = {
  summary: 'Follow requests and handshakes of a running server, one line for each step.',
  options: {
    ...adminOptions,
    session: {
      type: 'string',
      placeholder: 'PREFIX',
      help: 'only those with this session: the first characters of its sid',
    },
    address: { type: 'string', placeholder: 'ADDRESS', help: 'only those of this client' },
    path: { type: 'string', placeholder: 'PATH', help: 'only those whose path begins so' },
  },
  async run({ session, address, path, json, ...options }) {
    const client = await AdminClient.find(options);
    const ended = new AbortController();
    const end = () => ended.abort();
    process.once('SIGINT', end).once('SIGTERM', end);
    const query = { session: text(session), address: text(address), path: text(path) };
    const print = (line: object) => standardOutput().write(json ? jsonLine(line) : textOf(line));
    await client.follow('/v1/trace', query, print, ended.signal);
    return 0;
  },
};

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function textOf(line: object): string {
  if ('lost' in line) return `${paint('yellow', `(${line.lost} lines are missing: this terminal was too slow)`)}\n`;
  const { time, id, step, ms, ok, text } = line as Line;
  const words = `${step.padEnd(STEP_WIDTH)}  ${plain(text)}`;
  return `${time.slice(11, 23)} ${id.padEnd(5)} ${ms.toFixed(3).padStart(9)} ms  ${ok ? words : paint('red', words)}\n`;
}

function paint(colour: 'red' | 'yellow', text: string): string {
  return hasColours(isatty(1)) ? styleText(colour, text, { validateStream: false }) : text;
}

/** What came from the network works as no escape of a terminal. */
function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '\ufffd');
}
