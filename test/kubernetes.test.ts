import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseAllDocuments, parse as parseYaml } from 'yaml';
import { type Duration, parseDuration } from '../src/base/duration.ts';
import { problemsOf } from './config/problems-of.ts';

const text = readFileSync(new URL('../deploy/kubernetes/holdfast.yaml', import.meta.url), 'utf8');
const documents = parseAllDocuments(text);
// biome-ignore lint/suspicious/noExplicitAny: what is in it is what is tested.
const resources: any[] = documents.map(document => document.toJS());
const [configMap, deployment, service, budget] = resources;
const pod = deployment.spec.template.spec;
const [container] = pod.containers;
const config = parseYaml(configMap.data['holdfast.yaml'].replace(/\$\{\w+:-(\w+)\}/g, '$1'));

test('the manifests of Kubernetes are YAML that any reader reads the same', () => {
  expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
  expect(resources.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`)).toEqual([
    'v1 ConfigMap',
    'apps/v1 Deployment',
    'v1 Service',
    'policy/v1 PodDisruptionBudget',
  ]);
});

test('the manifests of Kubernetes have a configuration that can be served', () => {
  expect(problemsOf(config)).toEqual([]);
});

test('the manifests of Kubernetes name the same pods, ports, and volumes everywhere', () => {
  const { labels } = deployment.spec.template.metadata;
  expect(labels).toMatchObject(deployment.spec.selector.matchLabels);
  expect(labels).toMatchObject(service.spec.selector);
  expect(labels).toMatchObject(budget.spec.selector.matchLabels);
  const ports = new Map(
    container.ports.map((port: { name: string; containerPort: number }) => [port.name, port.containerPort]),
  );
  expect(ports.get(service.spec.ports[0].targetPort)).toBe(config.listen[0].port);
  expect(ports.get('admin')).toBe(config.admin.port);
  const mounted = container.volumeMounts.map(({ name }: { name: string }) => name);
  expect(pod.volumes.map(({ name }: { name: string }) => name)).toEqual(mounted);
  const writable = container.volumeMounts.filter(({ readOnly }: { readOnly?: boolean }) => !readOnly);
  expect(writable.map(({ mountPath }: { mountPath: string }) => mountPath)).toEqual([config.dataFolder]);
});

test('the manifests of Kubernetes ask the admin port for what it answers without a token', () => {
  const probes = [container.startupProbe, container.readinessProbe, container.livenessProbe];
  expect(probes.map(({ httpGet }) => [httpGet.path, httpGet.port])).toEqual([
    ['/readyz', 'admin'],
    ['/readyz', 'admin'],
    ['/healthz', 'admin'],
  ]);
});

test('the manifests of Kubernetes give a pod the time that it needs to drain, after clients have stopped coming', () => {
  const seconds = (duration: Duration) => parseDuration(duration) / 1000;
  const { delay, timeout } = config.drain;
  expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(seconds(delay) + seconds(timeout) + 10);
  const { periodSeconds, failureThreshold } = container.readinessProbe;
  expect(seconds(delay)).toBeGreaterThan(periodSeconds * failureThreshold);
});

test('the manifests of Kubernetes run an ordinary user who can write nothing but the data folder', () => {
  expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65532 });
  expect(container.securityContext).toEqual({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
});
