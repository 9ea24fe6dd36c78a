/**
 * The API's types under short names, all made from docs/openapi.json by `npm run types`. What the document still calls a plain
 * object gets its type in the Rust route (utoipa `ToSchema`), never here by hand.
 */
import type { components } from './schema'

export type Session = components['schemas']['SessionView']
export type Snapshot = components['schemas']['Snapshot']
export type LineSnapshot = components['schemas']['LineSnapshot']
export type Percentiles = components['schemas']['Percentiles']
export type LedgerEntries = components['schemas']['LedgerEntries']
export type LedgerEntry = components['schemas']['LedgerEntry']
export type LedgerAccounts = components['schemas']['LedgerAccounts']
export type Comparison = components['schemas']['Comparison']
export type ComparedChange = components['schemas']['ComparedChange']
export type PlanAnswer = components['schemas']['PlanAnswer']
export type PlannedMonth = components['schemas']['PlannedMonth']
export type PlantSettings = components['schemas']['PlantSettings']
export type PlantSheet = components['schemas']['PlantSheet']
export type Objectives = components['schemas']['ObjectivesDocument']
export type Goodput = components['schemas']['Goodput']
export type PlantHistory = components['schemas']['PlantHistory']
export type HistoryFigures = components['schemas']['HistoryFigures']
export type Scope = 'inference' | 'usage' | 'manage' | 'plant'
export type RequestList = components['schemas']['RequestList']
export type RequestSummary = components['schemas']['RequestSummary']
export type RequestTrace = components['schemas']['RequestTrace']
export type NextTokenRequest = components['schemas']['NextTokenRequest']
export type NextToken = components['schemas']['NextToken']
export type TokenizeReply = components['schemas']['TokenizeReply']
export type MergedWord = components['schemas']['MergedWord']
export type MergeStep = components['schemas']['MergeStep']
export type Model = components['schemas']['Model']
