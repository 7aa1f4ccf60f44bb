"""Background removal of many photos in folders, archives, lists and object stores: resumable, with a spending limit."""
