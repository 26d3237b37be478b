export { FakeClock } from './fake-clock.ts';
export { ledgerConformance, type OpenedLedger } from './ledger-conformance.ts';
export { type StoreConformanceOptions, storeConformance, type TestRunner } from './store-conformance.ts';
export {
  type ClientCloseEvent,
  type ConnectOptions,
  testClient,
  type WebSocketClient,
} from './test-client.ts';
