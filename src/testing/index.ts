export { FakeClock } from './fake-clock.ts';
export { storeConformance, type TestRunner } from './store-conformance.ts';
export {
  type ClientCloseEvent,
  type ConnectOptions,
  testClient,
  type WebSocketClient,
} from './test-client.ts';
