// Asks for a study, has it sent to a third and to itself, with dcmjs-dimse: C-FIND, C-MOVE and C-GET, one association each.
//
//   node dcmjs_query.cjs --port 11112 --calling VIEWER --destination PACS --study UID --patient ID
//
// Each response is told in a line of JSON: {"asked": "find" | "move" | "get", "status": number, ...}, each object of the
// C-GET as {"stored": UID}.
'use strict';
const { parseArgs } = require('node:util');
const { Client, constants, log, requests, responses } = require('dcmjs-dimse');

log.setLevel('silent');
const names = ['port', 'calling', 'destination', 'study', 'patient'];
const { values: asked } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: 'string' }])) });

function tell(event) {
  process.stdout.write(JSON.stringify(event) + '\n');
}

function counters(response) {
  return {
    remaining: response.getRemaining(),
    completed: response.getCompleted(),
    failed: response.getFailures(),
    warnings: response.getWarnings(),
  };
}

function send(name, request, told) {
  return new Promise((resolve) => {
    const client = new Client();
    request.on('response', (response) => tell({ asked: name, status: response.getStatus(), ...told(response) }));
    client.on('cStoreRequest', (store, callback) => {
      tell({ stored: store.getAffectedSopInstanceUid() });
      const response = responses.CStoreResponse.fromRequest(store);
      response.setStatus(constants.Status.Success);
      callback(response);
    });
    client.on('networkError', (error) => {
      process.stderr.write(`${error.message}\n`);
      process.exitCode = 1;
      resolve();
    });
    client.on('closed', resolve);
    client.addRequest(request);
    client.send('127.0.0.1', Number(asked.port), asked.calling, 'GATEWAY');
  });
}

async function main() {
  const keys = { PatientID: asked.patient, StudyInstanceUID: '', PatientName: '', ModalitiesInStudy: '' };
  await send('find', requests.CFindRequest.createStudyFindRequest(keys), (response) => ({
    study: response.hasDataset() ? response.getDataset().getElement('StudyInstanceUID') : null,
  }));
  await send('move', requests.CMoveRequest.createStudyMoveRequest(asked.destination, asked.study), counters);
  await send('get', requests.CGetRequest.createStudyGetRequest(asked.study), counters);
}

main();
