import { expect, test } from 'vitest';
import { rewriteFaults } from '../../src/http/route-rewrite.ts';

const star = { fault: 'star' };
const slash = { fault: 'slash' };
const parameter = (name: string, path: string) => ({ fault: 'parameter', parameter: name, path });

test.each<[paths: string[], to: string, faults: object[]]>([
  [['/a/*'], '/b', []],
  [['/a/*'], '/', []],
  [['/a/*'], '/b/', [slash]],
  [['/a/*'], '/b/*', [star]],
  [['/a'], '/b/', []],
  [['/a'], '/*', [star]],
  [['/:x'], '/b/:x', []],
  [['/:x'], '/:y', [parameter(':y', '/:x')]],
  [['/:x/:y'], '/:y/:x', []],
  [['/a'], '/b:x', []],
  [['/*'], '/', []],
  [['/a', '/b/*'], '/c/', [slash]],
  [['/c/:x', '/d/:y'], '/:x', [parameter(':x', '/d/:y')]],
  [['/a'], '/:x/:y/*', [star, parameter(':x', '/a'), parameter(':y', '/a')]],
])('the paths %j with the rewrite %j have the faults %j', (paths, to, faults) => {
  expect(rewriteFaults(paths, to)).toEqual(faults);
});
