import { describe, expect, test } from 'vitest';
import { checkConfig } from '../../src/config/check.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { readBanSettings } from '../../src/policy/ban/options.ts';

describe('bans in a configuration', () => {
  test.each([
    [{ jails: { login: { failures: 0 } } }, /bans\.jails\.login\.failures: expected a whole number from 1/],
    [{ jails: { logins: {} } }, /unknown key "logins" in jails; did you mean "login"\?/],
    [{ jails: { login: { ban: '31d' } } }, /bans\.jails\.login\.ban: is more than 30d: .*policy\.addresses\.deny/],
    [{ jails: { login: { within: -1 } } }, /needs a limit/],
    [{ jails: { honeypot: {} } }, /bans\.jails\.honeypot\.paths: is missing/],
    [{ jails: { honeypot: { paths: ['/*'] } } }, /not a path of a trap/],
    [{ jails: { honeypot: { paths: ['/a/:b'] } } }, /not a path of a trap/],
    [{ action: 'ban' }, /bans\.action: expected/],
    [{ factor: 0.5 }, /bans\.factor: expected a number from 1 to 100, got 0\.5/],
    [{ allow: ['example.com'] }, /"example\.com" is not an address/],
  ])('that is %j is refused', (bans, message) => {
    expect(() => parseConfig({ bans } as unknown as Config)).toThrow(message);
  });

  test('has durations as text, and every jail but the honeypot without saying so', () => {
    const { bans } = parseConfig({ bans: { maxTime: '2h', jails: { login: { ban: '1m' }, scan: false } } });
    const settings = readBanSettings(bans);
    expect(settings).toMatchObject({ action: 'log', maxMs: 7_200_000, forgetMs: 86_400_000, factor: 2 });
    expect([...settings.jails.keys()]).toEqual(['login', 'handshake', 'protocol', 'rate', 'inspection']);
    expect(settings.jails.get('login')).toEqual({ failures: 5, withinMs: 600_000, banMs: 60_000 });
  });

  const warnings = (config: Config) =>
    checkConfig(parseConfig(config))
      .filter(({ path }) => path.startsWith('bans'))
      .map(({ path, message }) => `${path}: ${message}`);

  test('is warned of where it is not known whether a proxy stands in front', () => {
    expect(warnings({ bans: { action: 'drop' } })).toEqual([
      expect.stringMatching(/^bans\.action: .*undeclaredProxies/),
    ]);
    expect(warnings({ bans: { action: 'drop', undeclaredProxies: 'ban' } })).toEqual([]);
    expect(warnings({ bans: { action: 'drop' }, trustedProxies: ['10.0.0.1'] })).toEqual([]);
    expect(warnings({ bans: {} })).toEqual([]);
  });

  test('is warned of where who is never banned may not come in', () => {
    const config: Config = { bans: { allow: ['192.0.2.1'] }, policy: { addresses: { deny: ['192.0.2.1'] } } };
    expect(warnings(config)).toEqual([expect.stringMatching(/^bans\.allow\[0\]: 192\.0\.2\.1 may not come in at all/)]);
  });
});

describe('anomalies in a configuration', () => {
  test.each([
    [{ network: 'drop' }, /anomalies\.network: expected/],
    [{ rate: { within: '2h' } }, /anomalies\.rate\.within: is more than 1h/],
    [{ secret: 'end' }, /anomalies\.secret: expected/],
  ])('that are %j are refused', (anomalies, message) => {
    expect(() => parseConfig({ anomalies } as unknown as Config)).toThrow(message);
  });

  test('that ban, where nobody is banned, are warned of', () => {
    const warnings = (config: Config) => checkConfig(parseConfig(config)).map(({ path }) => path);
    expect(warnings({ anomalies: { rate: { action: 'ban' }, places: 'end' } })).toContain('anomalies.rate');
    const bans = { action: 'refuse', undeclaredProxies: 'ban' } as const;
    expect(warnings({ anomalies: { rate: 'ban' }, bans })).not.toContain('anomalies.rate');
  });
});

describe('rules of inspection that ban', () => {
  const rules = [
    { name: 'one', in: 'query', match: '/a/' },
    { name: 'two', in: 'query', match: '/b/', action: 'ban' },
  ] as const;
  const routes = [{ path: '/', redirect: '/a', policy: { inspect: { rules } } }];
  const warnings = (bans: Config['bans']) =>
    checkConfig(parseConfig({ routes, policy: { inspect: { rules } }, ...(bans && { bans }) }))
      .filter(({ path }) => path.includes('inspect'))
      .map(({ path, message }) => `${path}: ${message}`);

  test('are warned of where nobody is banned', () => {
    const why = 'nobody is banned while bans.action is "log"; set it, for example to "refuse"';
    const paths = ['policy.inspect.rules[1].action', 'routes[0].policy.inspect.rules[1].action'];
    expect(warnings(undefined).sort()).toEqual(paths.map(path => `${path}: ${why}`));
    const bans = { action: 'refuse', undeclaredProxies: 'ban' } as const;
    expect(warnings({ ...bans, jails: { inspection: false } }).sort()).toEqual(
      paths.map(path => `${path}: nobody is banned by a rule while bans.jails.inspection is false; leave that out`),
    );
    expect(warnings(bans)).toEqual([]);
  });
});
