"""Firebase Hosting on one machine: the dashboard's files and the functions behind one host, by firebase.json."""
