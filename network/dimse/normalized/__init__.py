"""N-CREATE, N-SET and N-ACTION as the SCP: storage commitment and performed procedure steps (PS3.4 annexes F and J)."""
