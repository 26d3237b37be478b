import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { systemClock } from '../../base/clock.ts';
import { isHoldfastError } from '../../base/errors.ts';
import { messageOf } from '../../base/message-of.ts';
import type { Config, UpstreamConfig } from '../../config/config.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { Dialer, parseServerUrl } from '../../gateway/connection/dialer.ts';
import { whenOpen } from '../../gateway/connection/stage.ts';
import { connectionOptions, healthOptions } from '../../gateway/upstream/options.ts';
import { type Finding, probeOf } from '../../gateway/upstream/probe.ts';
import { certificateDoubt } from '../../http/certificate-dates.ts';
import { readTls } from './upstreams.ts';

/** Asked of a server without a health check of its own: whatever it answers, it speaks HTTP. */
const ANY_ANSWER = { path: '/', status: [100, 599], timeout: 5_000 } as const;

/**
 * Dials each server of each upstream as a request would, asks it what its health check asks, or else for `/` with GET,
 * and looks at its certificate.
 *
 * @returns what would fail, or soon will, and what to do.
 */
export async function probeUpstreams({ upstreams = {} }: Config): Promise<Doubt[]> {
  const found = await Promise.all(Object.entries(upstreams).map(([name, config]) => probeUpstream(name, config)));
  return found.flat();
}

async function probeUpstream(name: string, { tls: tlsConfig, ...config }: UpstreamConfig): Promise<Doubt[]> {
  const at = ['upstreams', name];
  try {
    const tls = tlsConfig && (await readTls(name, tlsConfig));
    const connections = connectionOptions(name, config, tls);
    const check = healthOptions(config.health ?? ANY_ANSWER)!;
    const found = config.servers.map(async (server, index): Promise<Doubt[]> => {
      const address = parseServerUrl(name, typeof server === 'string' ? server : server.url);
      // A new one each time: where a session of TLS goes on, no certificate is shown.
      const open = () => new Dialer(address, connections, systemClock).open();
      const finding = await probeOf(open, check, systemClock, connections.maxHeadBytes)();
      const problem = finding ? remedyFor(finding, address.isTls) : await certificateProblem(open());
      return problem === undefined
        ? []
        : [{ code: 'upstream-probe', path: [...at, 'servers', index], message: `${address.url}: ${problem}` }];
    });
    return (await Promise.all(found)).flat();
  } catch (error) {
    // A file of TLS that cannot be used: the check says where.
    return isHoldfastError(error) ? [] : [{ code: 'upstream-probe', path: at, message: messageOf(error) }];
  }
}

/** The certificate of a server that has just let us in. */
function certificateProblem(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve: (problem: string | undefined) => void) => {
    socket.on('error', error => resolve(messageOf(error)));
    whenOpen(socket, () => {
      const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
      const doubt = certificate && certificateDoubt(certificate, Date.now());
      resolve(doubt && `its certificate ${doubt.message}`);
      socket.destroy();
    });
  });
}

const UNKNOWN_AUTHORITY = 'nobody who is believed here has signed its certificate; name the authority as "tls.ca"';
const UNREACHABLE = 'there is no way to that address; look at the network and at firewalls';

/** What to do, by the code of an error. */
const REMEDIES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there; start the backend, or correct host and port',
  ENOENT: 'there is no such socket; start the backend, or correct the path',
  ENOTFOUND: 'the name is not known; correct it, or look at the DNS of this machine',
  EAI_AGAIN: 'the DNS of this machine does not answer; look at /etc/resolv.conf',
  EACCES: 'this user may not connect there; look at the permissions of the socket, at SELinux and at firewalls',
  EPERM: 'a firewall of this machine forbids it',
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name; write that in the URL, or as "tls.serverName"',
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_AUTHORITY,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_AUTHORITY,
  CERT_HAS_EXPIRED: 'its certificate is over; renew it',
  CERT_NOT_YET_VALID: 'its certificate has not begun; look at the clocks of both machines',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS there; write "http://"',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it does not speak TLS there; write "http://"',
};

function remedyFor({ reason, error }: NonNullable<Finding>, isTls: boolean): string {
  const remedy = REMEDIES[error];
  if (remedy !== undefined) return `${error}: ${remedy}`;
  switch (reason) {
    case 'status':
      return `${error} to its health check; correct "health", or the backend`;
    case 'timeout':
      return 'no answer in time: a firewall may drop what is sent, or the backend hangs';
    case 'tls':
      return `${error}: it cannot be agreed with on TLS; it may ask for a certificate ("tls.certificate"), or speak an old version`;
    case 'invalid':
    case 'reset':
      return `${error}: what it answers is not HTTP${isTls ? '' : '; if it speaks TLS there, write "https://"'}`;
    default:
      return error;
  }
}
