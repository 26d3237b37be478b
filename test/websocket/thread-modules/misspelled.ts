export function onMesage(): void {}
