// Tells of a performed procedure step with dcmjs-dimse, as a modality does: N-CREATE, an N-SET on the way, the last N-SET.
//
//   node dcmjs_step.cjs --port 11112 --calling CT_NORD_1 --uid STEP --study UID --series UID --objects UID,UID --class UID
//
// All goes over one association. Each answer is told in a line of JSON: {"asked": name, "status": number, "uid": string}.
'use strict';
const { parseArgs } = require('node:util');
const { Client, Dataset, log, requests } = require('dcmjs-dimse');

const STEP = '1.2.840.10008.3.1.2.3.3';
log.setLevel('silent');
const names = ['port', 'calling', 'uid', 'study', 'series', 'objects', 'class'];
const { values: asked } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: 'string' }])) });

function tell(event) {
  process.stdout.write(JSON.stringify(event) + '\n');
}

const begun = {
  SpecificCharacterSet: 'ISO_IR 192',
  Modality: 'CT',
  PatientName: 'Müller^Anna',
  PatientID: 'P7',
  PerformedStationAETitle: asked.calling,
  PerformedProcedureStepStartDate: '20261125',
  PerformedProcedureStepStartTime: '091500.5',
  PerformedProcedureStepStatus: 'IN PROGRESS',
  PerformedProcedureStepID: 'PPS7',
  PerformedProcedureStepDescription: 'Thorax',
  ScheduledStepAttributesSequence: [{ StudyInstanceUID: asked.study, AccessionNumber: 'ACC7' }],
  PerformedSeriesSequence: [],
};
const series = {
  SeriesInstanceUID: asked.series,
  ReferencedImageSequence: asked.objects
    .split(',')
    .map((uid) => ({ ReferencedSOPClassUID: asked.class, ReferencedSOPInstanceUID: uid })),
  ReferencedNonImageCompositeSOPInstanceSequence: [],
};
const steps = [
  ['create', requests.NCreateRequest, begun],
  ['set', requests.NSetRequest, { PerformedSeriesSequence: [series] }],
  [
    'end',
    requests.NSetRequest,
    {
      PerformedProcedureStepStatus: 'COMPLETED',
      PerformedProcedureStepEndDate: '20261125',
      PerformedProcedureStepEndTime: '093000',
      PerformedSeriesSequence: [series],
    },
  ],
  ['again', requests.NSetRequest, { PerformedProcedureStepStatus: 'DISCONTINUED' }],
];

const client = new Client();
for (const [name, Request, elements] of steps) {
  const request = new Request(STEP, asked.uid);
  request.setDataset(new Dataset(elements));
  request.on('response', (response) =>
    tell({ asked: name, status: response.getStatus(), uid: response.getAffectedSopInstanceUid() })
  );
  client.addRequest(request);
}
client.on('networkError', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
client.send('127.0.0.1', Number(asked.port), asked.calling, 'GATEWAY');
