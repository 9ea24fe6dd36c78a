import { call } from '$lib/api/client'
import type { AdministeredModel } from '$lib/api/types'
import { toasts } from '$lib/store/toasts.svelte'
import { offeredOf, type Offered } from './offered'
import { t } from './texts'

/** Reads the answer of a command, which is the model as it is then. */
function told(name: string, document: AdministeredModel): void {
  const model = offeredOf(document)
  const said = { loaded: t('isLoaded', { name }), loading: t('isLoading', { name }), draining: t('isDraining', { name }), unloaded: t('isUnloaded', { name }) }
  if (model.state !== 'failed') toasts.good(said[model.state])
  else toasts.bad(`${name}: ${model.reason ?? t('failed')}`)
}

export async function load(model: Offered): Promise<void> {
  told(model.name, await call('post', '/admin/v1/models/{name}/load', { path: { name: model.name } }))
}

export async function unload(model: Offered): Promise<void> {
  told(model.name, await call('post', '/admin/v1/models/{name}/unload', { path: { name: model.name } }))
}

export async function pin(model: Offered, isPinned: boolean): Promise<void> {
  await call('put', '/admin/v1/models/{name}/pin', { path: { name: model.name }, body: { pinned: isPinned } })
  toasts.good(isPinned ? t('isPinned', { name: model.name }) : t('isUnpinned', { name: model.name }))
}

export async function addAdapter(model: Offered, name: string, path: string): Promise<void> {
  await call('post', '/admin/v1/models/{name}/adapters', { path: { name: model.name }, body: { name, path } })
  toasts.good(t('isLoaded', { name: `${model.name}:${name}` }))
}

export async function removeAdapter(model: Offered, adapter: string): Promise<void> {
  await call('delete', '/admin/v1/models/{name}/adapters/{adapter}', { path: { name: model.name, adapter } })
  toasts.good(t('isUnloaded', { name: `${model.name}:${adapter}` }))
}
