import { expect, test } from 'vitest';
import { closing } from '../services/closing.ts';
import { ask, RawBackend, WiredServer, wires } from './wires.ts';

const open = closing();

test.each(wires)(
  'over %s, an observed session ends with a date that has been, and not with one that never was',
  async wire => {
    const backend = await RawBackend.listen();
    open.push(backend);
    const server = await WiredServer.upstream(backend, {}, {}, { session: { mode: 'observed', cookie: 'JSESSIONID' } });
    open.push(server);
    const answer = (cookie: string) => {
      backend.answer = () => `HTTP/1.1 200 OK\r\n${cookie && `Set-Cookie: ${cookie}\r\n`}Content-Length: 0\r\n\r\n`;
    };
    const seen = (request: string | undefined) => /^X-Session-ID: (.*)\r$/im.exec(request ?? '')?.[1];
    /** Is the session there after an answer with such a date? */
    const survives = async (id: string, attributes: string): Promise<boolean> => {
      answer(`JSESSIONID=${id}; Path=/`);
      await ask(server, wire);
      answer(`JSESSIONID=${id}; Path=/; ${attributes}`);
      await ask(server, wire, { headers: { Cookie: `JSESSIONID=${id}` } });
      answer('');
      await ask(server, wire, { headers: { Cookie: `JSESSIONID=${id}` } });
      return seen(backend.requests.at(-1)) === id;
    };
    const never = [
      'Thu, 32 Foo 2026',
      'Mon, 30 Feb 2026 00:00:00 GMT',
      'Sun, 31-Apr-26 00:00:00 GMT',
      '29 Feb 2025 00:00:00',
      '0',
    ];
    for (const [index, date] of never.entries())
      expect([date, await survives(`never${index}`, `Expires=${date}`)]).toEqual([date, true]);
    for (const [index, date] of ['Sat, 28 Feb 2026 00:00:00 GMT', 'Thu, 29-Feb-24 00:00:00 GMT'].entries())
      expect([date, await survives(`past${index}`, `Expires=${date}`)]).toEqual([date, false]);
  },
);
