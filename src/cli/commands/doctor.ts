import { readFileSync } from 'node:fs';
import { parseDuration } from '../../base/duration.ts';
import { messageOf } from '../../base/message-of.ts';
import { standardOutput } from '../../server/log/standard-output.ts';
import { type Command, type OptionValues, UsageError } from '../command.ts';
import type { Step } from '../doctor/chart.ts';
import type { DoctorOptions } from '../doctor/examine-url.ts';

export const doctor: Command = {
  summary: "Look at a WebSocket from the client's side, and say which of the usual mistakes it is.",
  positionals: [{ name: 'URL', help: 'of the WebSocket: wss://example.com/socket (also ws:, https: and http:)' }],
  options: {
    origin: {
      type: 'string',
      placeholder: 'ORIGIN',
      help: 'of the page; default: that of the site. "none": none is sent',
    },
    cookie: { type: 'string', placeholder: 'COOKIES', help: 'as a browser sends them: "SESSIONID=...; other=..."' },
    header: {
      type: 'string',
      multiple: true,
      placeholder: 'LINE',
      help: '"Name: value", sent with each request; may be repeated',
    },
    subprotocol: { type: 'string', multiple: true, placeholder: 'NAME', help: 'offered; may be repeated' },
    idle: { type: 'string', placeholder: 'TIME', help: 'keep a WebSocket silent for so long: 70s finds most timeouts' },
    messages: {
      type: 'boolean',
      help: 'send whole messages, which the application sees, and say whether they are echoed',
    },
    timeout: { type: 'string', placeholder: 'TIME', help: 'for each connection and each answer; default 10s' },
    connect: { type: 'string', placeholder: 'HOST:PORT', help: 'connect there, and ask for the URL all the same' },
    ca: { type: 'string', placeholder: 'FILE', help: 'PEM: the authority of your own that signed the certificate' },
    insecure: {
      type: 'boolean',
      help: 'go on with a certificate that is not good. Cookies then go to an unverified server',
    },
    json: { type: 'boolean', help: 'print one JSON object, for programs' },
    quiet: { type: 'boolean', short: 'q', help: 'print what is wrong only, one line each' },
  },
  async run(values, [url = '']) {
    // A server that starts has no use for any of this.
    const { readTarget, shownUrl } = await import('../doctor/target.ts');
    const { checkRequest } = await import('../doctor/visit.ts');
    const { examineUrl } = await import('../doctor/examine-url.ts');
    const { clientProxyOf } = await import('../doctor/client-proxy.ts');
    const report = await import('../doctor/report.ts');
    const target = usage(() => readTarget(url, text(values.connect)));
    const options = usage(() => readOptions(values));
    usage(() => checkRequest(target, options));
    const isPlain = !values.json && !values.quiet;
    if (isPlain) print(`${shownUrl(target)}\n`);
    const onStep = isPlain ? (step: Step) => print(report.stepLine(step)) : undefined;
    const clientProxy = clientProxyOf(target, process.env);
    const chart = await examineUrl(target, { ...options, clientProxy, onStep });
    if (values.json) print(report.jsonOf(target, chart));
    else if (values.quiet) for (const line of report.quietLines(chart)) print(line);
    else print(`\n${report.conclusion(chart)}`);
    return chart.found.length > 0 ? 1 : 0;
  },
};

/** A reader that goes away, as `head` does, is not an error. */
function print(text: string): void {
  standardOutput().write(`${text}\n`);
}

/** What the library says of values that cannot be used is a wrong command line here. */
function usage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(`doctor: ${error.message}`) : error;
  }
}

function readOptions(values: OptionValues): DoctorOptions {
  const headers = list(values.header).map(readHeader);
  const cookies = headers.filter(([name]) => /^cookie$/i.test(name)).map(([, value]) => value);
  const cookie = [...list(values.cookie), ...cookies].join('; ');
  return {
    origin: values.origin === 'none' ? null : text(values.origin),
    cookie: cookie === '' ? undefined : cookie,
    headers: headers.filter(([name]) => !/^(?:cookie|origin)$/i.test(name)),
    subprotocols: list(values.subprotocol),
    idleMs: readTime('idle', text(values.idle) ?? '0s'),
    timeoutMs: Math.max(1, readTime('timeout', text(values.timeout) ?? '10s')),
    sendsMessages: values.messages === true,
    isInsecure: values.insecure === true,
    ca: values.ca === undefined ? undefined : readAuthority(text(values.ca)!),
  };
}

function text(value: OptionValues[string]): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function list(value: OptionValues[string]): string[] {
  return [value ?? []].flat().filter(one => typeof one === 'string');
}

/** The value may be a secret: it is not repeated. */
function readHeader(line: string): [name: string, value: string] {
  const colon = line.indexOf(':');
  if (colon < 1) throw new TypeError('a header has a name and a value; write --header "Name: value"');
  const name = line.slice(0, colon).trim();
  if (/^origin$/i.test(name))
    throw new TypeError('the origin has an option of its own; write --origin "https://example.com"');
  return [name, line.slice(colon + 1).trim()];
}

function readTime(name: string, value: string): number {
  const ms = parseDuration(value);
  if (ms > 86_400_000) throw new TypeError(`--${name} ${value} is too long; write at most 1d`);
  return ms;
}

function readAuthority(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new TypeError(`--ca cannot be read: ${messageOf(error)}`);
  }
}
