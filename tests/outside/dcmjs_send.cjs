// Sends files with dcmjs-dimse, which shares no code with the gateway, pynetdicom or DCMTK.
//
//   node dcmjs_send.cjs --port 11112 [--associations 3] [--cut abort|destroy --after 2] FILE...
//
// Files are shared out among associations that are open at once; each begins with a C-ECHO. What happens is told in lines
// of JSON: {"echo": status}, {"file": path, "status": number}, {"association": how it ended}. With --cut, associations end
// in the midst of a data set, when so many of its PDUs are written: by an A-ABORT, or by the connection's end.
'use strict';
const { parseArgs } = require('node:util');
const { Client, association, constants, log, requests } = require('dcmjs-dimse');

const P_DATA = 0x04;
const A_ABORT = 0x07;
const COMMAND = 0x01;
const CONTROL_HEADER = 11; // where the message control header of a PDU's first PDV stands (PS3.8 9.3.5)

log.setLevel('silent');
const { values: asked, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string' },
    calling: { type: 'string', default: 'DCMJS' },
    called: { type: 'string', default: 'GATEWAY' },
    associations: { type: 'string', default: '1' },
    cut: { type: 'string' },
    after: { type: 'string', default: '2' },
  },
});

function tell(event) {
  process.stdout.write(JSON.stringify(event) + '\n');
}

/** A context for each data set's own transfer syntax: without it, dcmjs-dimse sends all native ones as implicit VR. */
function proposeOwnSyntaxes(client, datasets) {
  const wanted = new Map();
  for (const dataset of datasets) {
    const pair = [dataset.getElement('SOPClassUID'), dataset.getTransferSyntaxUid()];
    wanted.set(pair.join(' '), pair);
  }
  for (const pair of wanted.values()) {
    client.addAdditionalPresentationContext(new association.PresentationContext(0, ...pair), true);
  }
}

/** dcmjs-dimse writes one PDU a call; those of a data set beyond `pdus`, and all that follows, are held back. */
function cutAfter(client, pdus, cut) {
  const { socket } = client.network;
  const write = socket.write.bind(socket);
  let begun = 0;
  socket.write = (pdu) => {
    const isDataset = pdu[0] === P_DATA && !(pdu[CONTROL_HEADER] & COMMAND);
    begun += isDataset;
    if (begun <= pdus || pdu[0] === A_ABORT) return write(pdu);
    if (isDataset && begun === pdus + 1) cut(socket);
    return true;
  };
}

function associate(share) {
  return new Promise((resolve) => {
    const client = new Client();
    let outcome = 'lost';
    const echo = new requests.CEchoRequest();
    echo.on('response', (response) => tell({ echo: response.getStatus() }));
    client.addRequest(echo);
    const stores = share.map((file) => {
      const store = new requests.CStoreRequest(file);
      store.on('response', (response) => tell({ file, status: response.getStatus() }));
      client.addRequest(store);
      return store;
    });
    proposeOwnSyntaxes(client, stores.map((store) => store.getDataset()));
    client.on('associationReleased', () => (outcome = 'released'));
    client.on('associationRejected', () => (outcome = 'rejected'));
    client.on('closed', () => {
      tell({ association: outcome });
      resolve();
    });
    client.send('127.0.0.1', Number(asked.port), asked.calling, asked.called);
    if (asked.cut) {
      cutAfter(client, Number(asked.after), (socket) => {
        outcome = 'cut';
        if (asked.cut === 'abort') {
          client.abort(constants.AbortSource.ServiceUser, constants.AbortReason.NotSpecified);
          socket.end();
        } else {
          socket.destroy();
        }
      });
    }
  });
}

const shares = Array.from({ length: Number(asked.associations) }, () => []);
files.forEach((file, index) => shares[index % shares.length].push(file));
Promise.all(shares.map(associate));
