import type { Chart, Found, Step } from './chart.ts';
import { FINDINGS, type Finding } from './findings.ts';
import { shownUrl, type Target } from './target.ts';

/** What may stand in front, when it says so. What else says what it is may be behind one of these. */
const FRONTS = /apache|nginx|haproxy|caddy|envoy|lighttpd|varnish|microsoft-iis/;

/** One step as people read it, as soon as it is done. */
export function stepLine({ name, result, text }: Step): string {
  return `${result.padEnd(5)} ${name.padEnd(12)} ${text}`;
}

/** What stands below the steps. */
export function conclusion({ found, server }: Chart): string {
  if (found.length === 0) return 'Nothing wrong was found.';
  const count = found.length === 1 ? 'One thing is' : `${found.length} things are`;
  return [`${count} wrong:`, ...found.map(one => findingText(one, server))].join('\n\n');
}

function findingText({ code, text }: Found, server: string): string {
  const { cause, remedy, apache, nginx }: Finding = FINDINGS[code];
  const [front] = FRONTS.exec(server.toLowerCase()) ?? [];
  const isOther = (name: string) => front !== undefined && front !== name;
  return [
    `${code}: ${cause}`,
    `  seen:     ${text}`,
    `  do:       ${remedy}`,
    ...(apache === undefined || isOther('apache') ? [] : [`  Apache:   ${apache}`]),
    ...(nginx === undefined || isOther('nginx') ? [] : [`  nginx:    ${nginx}`]),
  ].join('\n');
}

/** With `-q`: one line for each finding. */
export function quietLines({ found }: Chart): string[] {
  return found.map(({ code, text }) => `${code}: ${text}`);
}

/** For programs. */
export function jsonOf(target: Target, { address, server, steps, found }: Chart): string {
  return JSON.stringify({
    url: shownUrl(target),
    address,
    server,
    steps,
    findings: found.map(({ code, text }) => ({ code, text, ...(FINDINGS[code] as Finding) })),
  });
}
