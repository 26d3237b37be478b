import { readFileSync } from 'node:fs';
import { inspect, parseArgs } from 'node:util';
import { isHoldfastError } from '../base/errors.ts';
import { messageOf } from '../base/message-of.ts';
import { nearestName } from '../base/nearest-name.ts';
import { standardError } from '../server/log/standard-output.ts';
import { type Command, type CommandOption, type ExitCode, UsageError } from './command.ts';
import { bans } from './commands/bans.ts';
import { check } from './commands/check.ts';
import { connections } from './commands/connections.ts';
import { demo } from './commands/demo.ts';
import { doctor } from './commands/doctor.ts';
import { drain } from './commands/drain.ts';
import { logs } from './commands/logs.ts';
import { reload } from './commands/reload.ts';
import { serve } from './commands/serve.ts';
import { sessions } from './commands/sessions.ts';
import { status } from './commands/status.ts';
import { trace } from './commands/trace.ts';
import { upstreams } from './commands/upstreams.ts';
import { endSoon } from './end-soon.ts';

const commands: Readonly<Record<string, Command>> = {
  serve,
  check,
  doctor,
  demo,
  status,
  sessions,
  connections,
  upstreams,
  bans,
  logs,
  reload,
  drain,
  trace,
};

const HELP: CommandOption = { type: 'boolean', short: 'h', help: 'print this and end' };

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<ExitCode> {
  try {
    const [name, ...rest] = args;
    if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
      console.log(overview());
      return name === undefined ? 2 : 0;
    }
    if (name === '--version' || name === '-v') {
      console.log(version());
      return 0;
    }
    const command = Object.hasOwn(commands, name) ? commands[name]! : unknownCommand(name);
    const { values: options, positionals } = readArguments(name, command, rest);
    if (options.help) {
      console.log(commandHelp(name, command));
      return 0;
    }
    checkPositionals(name, command, positionals);
    const code = await command.run(options, positionals);
    endSoon();
    return code;
  } catch (error) {
    endSoon();
    if (error instanceof UsageError) {
      standardError().write(`holdfast: ${error.message}\n`);
      return 2;
    }
    // What the operator can act on is the message; the stack of anything else is what a bug report needs.
    standardError().write(`${isHoldfastError(error) ? `holdfast: ${withCauses(error)}` : inspect(error)}\n`);
    return 1;
  }
}

/** What lies behind a failure is what the operator can mend: a refused connection, a wrong password. */
function withCauses(error: Error): string {
  let text = error.message;
  for (let { cause } = error; cause instanceof Error; { cause } = cause) {
    const what = messageOf(cause);
    if (what !== '' && !text.includes(what)) text += `\n  cause: ${what}`;
  }
  return text;
}

function unknownCommand(name: string): never {
  const near = nearestName(name, Object.keys(commands));
  const what = name.startsWith('-') ? 'option' : 'command';
  throw new UsageError(
    `unknown ${what} "${name}"; ${near && what === 'command' ? `did you mean "${near}"?` : 'see holdfast --help'}`,
  );
}

function readArguments(name: string, command: Command, args: readonly string[]) {
  const options = { ...command.options, help: HELP };
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    if (!code?.startsWith('ERR_PARSE_ARGS')) throw error;
    const unknown = code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? /'--([^']+)'/.exec(message)?.[1] : undefined;
    if (unknown === undefined) throw new UsageError(`${name}: ${message}; see holdfast ${name} --help`);
    const near = nearestName(unknown, Object.keys(options));
    const remedy = near ? `did you mean "--${near}"?` : `see holdfast ${name} --help`;
    throw new UsageError(`${name}: unknown option "--${unknown}"; ${remedy}`);
  }
}

function checkPositionals(name: string, { positionals = [] }: Command, given: readonly string[]): void {
  const missing = positionals.slice(given.length).find(({ optional }) => !optional);
  const see = `see holdfast ${name} --help`;
  if (missing !== undefined) throw new UsageError(`${name}: ${missing.name} is missing; ${see}`);
  const [surplus] = given.slice(positionals.length);
  if (surplus !== undefined) throw new UsageError(`${name}: unexpected argument "${surplus}"; ${see}`);
}

function overview(): string {
  return [
    'Usage: holdfast COMMAND [OPTIONS]',
    '',
    'Session-first WebSocket server and gateway. Connections drop; sessions hold.',
    '',
    'Commands:',
    ...Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(12)}${summary}`),
    '',
    'holdfast COMMAND --help prints the options of a command; holdfast --version the version.',
    '',
    'Exit codes: 0 done; 1 failed, or what was checked is wrong; 2 wrong command line.',
  ].join('\n');
}

function commandHelp(name: string, command: Command): string {
  const { positionals = [] } = command;
  const words = positionals.map(({ name: word, help }) => [word, help]);
  const options = Object.entries({ ...command.options, help: HELP }).map(([option, { short, placeholder, help }]) => [
    `${short ? `-${short}, ` : '    '}--${option}${placeholder ? ` ${placeholder}` : ''}`,
    help,
  ]);
  const rows = [...words, ...options];
  const usage = positionals.map(({ name: word, optional }) => (optional ? ` [${word}]` : ` ${word}`)).join('');
  const width = Math.max(...rows.map(([left]) => left!.length));
  return [
    `Usage: holdfast ${name}${usage} [OPTIONS]`,
    '',
    command.summary,
    '',
    ...rows.map(([left, right]) => `  ${left!.padEnd(width)}  ${right}`),
  ].join('\n');
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
}
