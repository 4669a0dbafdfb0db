"""What our receiving leans on inside pynetdicom: when a new version moves it, this says so before a peer does."""

import inspect
from importlib.metadata import version

import pytest
from pynetdicom import acse, association, dimse, dul, fsm, pdu, timer, transport

PINNED = "3.0.4"


def test_version_is_the_one_that_was_read():
    assert version("pynetdicom") == PINNED, "read the sources again: network/dimse leans on internals"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            dul.DULServiceProvider,
            """run_reactor _is_transport_event _read_pdu_data _decode_pdu _send send_pdu kill_dul stop_dul
            _process_recv_primitive idle_timer_expired peek_next_pdu receive_pdu""",
        ),
        (
            association.Association,
            """run_reactor _run_reactor _serve_request _abort_blocking set_socket kill abort acse_timeout
            network_timeout""",
        ),
        (acse.ACSE, "_negotiate_as_acceptor send_release send_reject send_abort is_aborted is_release_requested"),
        (dimse.DIMSEServiceProvider, "get_msg receive_primitive send_msg"),
        (fsm.StateMachine, "do_action transition"),
        (timer.Timer, "start stop restart expired remaining timeout"),
        (transport.AssociationSocket, "ready recv send close _shutdown_socket event_queue"),
        (transport.ThreadedAssociationServer, "process_request server_bind server_activate shutdown_request"),
        (transport.RequestHandler, "_create_association handle"),
    ],
)
def test_methods_are_there(owner: type, names: str):
    assert [name for name in names.split() if not hasattr(owner, name)] == []


def test_reactors_ask_what_ours_override():
    loop = inspect.getsource(dul.DULServiceProvider.run_reactor)
    asked = [loop.index(text) for text in ("_process_recv_primitive()", "_is_transport_event()", "do_action(event)")]
    assert asked == sorted(asked)
    turn = inspect.getsource(association.Association._run_reactor)
    order = [turn.index(text) for text in ("_reactor_checkpoint.wait()", "get_msg(block=False)", "_serve_request(msg")]
    assert order == sorted(order)
    assert "_reactor_checkpoint.set()" in inspect.getsource(association.Association.kill)
    assert "self._kill_thread = True" in inspect.getsource(dul.DULServiceProvider.kill_dul)


def test_states_and_events_have_their_meaning():
    table = fsm.TRANSITION_TABLE
    expected = {
        ("Evt5", "Sta1"): "AE-5",
        ("Evt6", "Sta2"): "AE-6",
        ("Evt18", "Sta2"): "AA-2",
        ("Evt19", "Sta2"): "AA-1",
        ("Evt19", "Sta6"): "AA-8",
        ("Evt6", "Sta6"): "AA-8",
        ("Evt10", "Sta6"): "DT-2",
        ("Evt12", "Sta6"): "AR-2",
        ("Evt16", "Sta6"): "AA-3",
        ("Evt17", "Sta6"): "AA-4",
        ("Evt17", "Sta13"): "AR-5",
    }
    assert {key: table.get(key) for key in expected} == expected
    assert dul._PDU_TYPES[b"\x04"] == (pdu.P_DATA_TF, "Evt10")


def test_attributes_are_made_by_the_constructors():
    made = {
        dul.DULServiceProvider: "socket event_queue to_provider_queue to_user_queue _recv_pdu _idle_timer artim_timer "
        "state_machine _kill_thread",
        association.Association: "_reactor_checkpoint _sent_abort _kill _is_paused acse dul dimse requestor acceptor "
        "_server",
        dimse.DIMSEServiceProvider: "message msg_queue cancel_req",
        timer.Timer: "_start_time _end_time",
        transport.AssociationSocket: "socket _is_connected",
    }
    for owner, names in made.items():
        source = inspect.getsource(owner.__init__)
        assert [name for name in names.split() if f"self.{name}" not in source] == [], owner
