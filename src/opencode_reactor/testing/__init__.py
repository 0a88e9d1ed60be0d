"""What tests stand on, ours and our users': the scripted model, real servers, a fault proxy."""
