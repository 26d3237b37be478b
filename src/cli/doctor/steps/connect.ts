import { TLSSocket } from 'node:tls';
import type { Chart } from '../chart.ts';
import { type DialOptions, dialTcp, dialTls, resolveName, tlsFacts } from '../dial.ts';
import { shownTime } from '../shown.ts';
import type { Target } from '../target.ts';

/** The address that takes connections; undefined when none does, which the chart says. */
export async function connectStep(chart: Chart, { dial }: Target, options: DialOptions): Promise<string | undefined> {
  const addresses = await resolveName(dial.hostname, options);
  if ('finding' in addresses) {
    chart.report('dns', 'fail', addresses.finding, `${dial.hostname}: ${addresses.text}`);
    return undefined;
  }
  if (addresses[0] !== dial.hostname) chart.note('dns', 'ok', `${dial.hostname} is ${addresses.join(', ')}`);
  return await firstAlive(chart, addresses, dial, options.timeoutMs);
}

async function firstAlive(
  chart: Chart,
  addresses: readonly string[],
  { hostname, port }: Target['dial'],
  timeoutMs: number,
): Promise<string | undefined> {
  const tries = await Promise.all(
    addresses.map(async address => {
      const startedAt = performance.now();
      const result = await dialTcp(address, port, timeoutMs);
      const ms = performance.now() - startedAt;
      if ('finding' in result) return { at: at(address, port), address, ms, fault: result };
      result.destroy();
      return { at: at(address, port), address, ms, fault: undefined };
    }),
  );
  const alive = tries.find(({ fault }) => fault === undefined);
  const dead = tries.flatMap(({ at: place, fault }) => (fault ? [{ place, fault }] : []));
  if (alive === undefined) {
    const [{ fault } = {}] = dead;
    chart.report('tcp', 'fail', fault!.finding, dead.map(one => `${one.place}: ${one.fault.text}`).join('; '));
    return undefined;
  }
  // The name of every machine for itself: servers of today listen on one of its addresses as a rule, and clients try both.
  const isLocal = /(?:^|\.)localhost$/i.test(hostname);
  for (const { place, fault } of dead) {
    const text = `${place}: ${fault.text}`;
    if (isLocal || NO_WAY.has(fault.text)) chart.note('tcp', 'note', text);
    else chart.report('tcp', 'warn', 'address-dead', text);
  }
  chart.note('tcp', 'ok', `${alive.at} in ${shownTime(alive.ms)}`);
  chart.address = alive.at;
  return alive.address;
}

/** This machine has no address of that family: nothing is known of the server. */
const NO_WAY: ReadonlySet<string> = new Set(['ENETUNREACH', 'EADDRNOTAVAIL']);

function at(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** True when TLS is as it should be, or is not asked for. */
export async function tlsStep(
  chart: Chart,
  target: Target,
  address: string,
  options: DialOptions & { readonly isInsecure: boolean },
): Promise<boolean> {
  if (!target.isSecure) return true;
  const socket = await dialTcp(address, target.dial.port, options.timeoutMs);
  const secure = 'finding' in socket ? socket : await dialTls(socket, target, options);
  if (!(secure instanceof TLSSocket)) {
    chart.report('tls', 'fail', secure.finding, secure.text);
    return false;
  }
  const { protocol, subject, issuer, validTo, fault } = tlsFacts(secure, target, Date.now());
  secure.destroy();
  const facts = `${protocol}; certificate of ${subject}, signed by ${issuer}, until ${validTo}`;
  if (fault === undefined) chart.note('tls', 'ok', facts);
  else chart.report('tls', fault.isWarning ? 'warn' : 'fail', fault.finding, `${fault.text} (${facts})`);
  // As browsers do: what would be sent now could be a cookie, and the server somebody else.
  return fault === undefined || fault.isWarning || options.isInsecure;
}
